"""Panels of the dashboards as a picture: their queries and Prometheus's answers, drawn here instead of by Grafana."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from tests.harness.metrics.queries import Query, panel_queries

PANELS = (
    "Slots of pools",
    "How tries ended",
    "Where the seconds of a task go",
    "Rows by outcome",
    "CPU of nodes",
    "The namespace's quota",
)
_MOST_LINES = 8
Answer = Callable[[str], list[dict[str, Any]]]
"""The series of a query over the time that is looked at, as Prometheus gives them."""


def draw_panels(ask: Answer, path: Path) -> None:
    """Draw the panels above to a file in SVG."""
    matplotlib.use("svg")
    pyplot.rcParams.update({"svg.hashsalt": "panels", "font.size": 8, "svg.fonttype": "path"})
    figure, places = pyplot.subplots(2, len(PANELS) // 2, figsize=(13, 6))
    for place, title in zip(places.flat, PANELS, strict=True):
        _panel(place, title, [query for query in panel_queries() if f"panel {title}, " in query.where], ask)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _panel(place: Any, title: str, queries: Sequence[Query], ask: Answer) -> None:
    assert queries, f"No dashboard has a panel {title}."
    lines = [(_name(query, series["metric"]), series["values"]) for query in queries for series in ask(query.text)]
    assert lines, f"Prometheus has nothing for the panel {title}."
    began = min(float(values[0][0]) for _, values in lines)
    for name, values in sorted(lines)[:_MOST_LINES]:
        minutes = [(float(time) - began) / 60 for time, _ in values]
        place.plot(minutes, [float(value) for _, value in values], label=name, linewidth=1.2)
    place.set(title=title, xlabel=f"minutes after {datetime.fromtimestamp(began, UTC):%H:%M} UTC", ylim=(0, None))
    place.grid(visible=True, alpha=0.3)
    place.legend(fontsize=7, frameon=False)


def _name(query: Query, labels: dict[str, str]) -> str:
    """The legend, as Grafana makes it."""
    legend = re.search(r"\((.*)\)$", query.where)
    text = legend[1] if legend else ""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), text)
