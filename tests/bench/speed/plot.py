"""docs/benchmarks/rows.svg: rows a second of each contender, by how many rows it moved."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.ticker import NullFormatter

from tests.bench.speed.contenders import CONTENDERS, OURS
from tests.bench.speed.figures import Figures, spread

_MARKS = {"ours": "o", "limit": "^", "replaced": "s", "peer": "s"}


def draw(figures: Figures, path: Path) -> None:
    """Draw a panel for each table; the lines are medians, the bars reach from the least to the greatest."""
    matplotlib.use("svg")
    # The same figures make the same file, which is in git.
    pyplot.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 9, "svg.fonttype": "path"})
    tables = list(dict.fromkeys(series.table for series in figures.series))
    figure, panels = pyplot.subplots(1, len(tables), figsize=(5 * len(tables) + 2, 4.5), squeeze=False)
    for panel, table in zip(panels[0], tables, strict=True):
        _panel(panel, figures, table)
    handles: dict[str, Any] = {}
    for panel in panels[0]:
        drawn, labels = panel.get_legend_handles_labels()
        handles.update(zip(labels, drawn, strict=True))
    names = [contender.name for contender in CONTENDERS if contender.name in handles]
    figure.legend([handles[name] for name in names], names, loc="center right", frameon=False)
    figure.tight_layout(rect=(0, 0, 1 - 2 / (5 * len(tables) + 2), 1))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _panel(panel: Any, figures: Figures, table: str) -> None:
    for at, contender in enumerate(CONTENDERS):
        points = {
            series.moved: spread(series.rates)
            for series in figures.series
            if (series.contender, series.table) == (contender.name, table)
        }
        if points:
            moved = sorted(points)
            rates = [points[rows] for rows in moved]
            errors = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
            panel.errorbar(
                moved, [rate.median for rate in rates], yerr=errors, label=contender.name, color=f"C{at}",
                marker=_MARKS[contender.kind], linestyle="--" if contender.kind == "limit" else "-",
                linewidth=2.5 if contender.name == OURS else 1.2, markersize=5, capsize=3,
            )  # fmt: skip
    panel.set(xscale="log", yscale="log", xlabel="rows moved", ylabel="rows/s", title=table)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter(NullFormatter())
    panel.grid(visible=True, which="major", alpha=0.3)
