"""Every query that Grafana and Prometheus are given: of every panel, every variable and every rule, ready to be run."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dev.sandbox.stack import ROOT

OBSERVABILITY = ROOT / "k8s" / "base" / "observability"
DASHBOARDS = sorted((OBSERVABILITY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((OBSERVABILITY / "prometheus" / "rules").glob("*.yml"))

EMPTY_IS_WELL = {
    "overview": {"Alerts that fire", "Task errors"},
    # Nothing has failed, nothing is under way, and the run was made by hand.
    "dags": {"Delay of scheduled runs", "Oldest running run", "failed", "retried", "Failed tries by task"},
    # The login of the pipelines may not see the sessions of others, and the orders are not read from the log.
    "etl": {
        "Work in the sink",
        "Log that the source keeps",
        "Share of the slot's limit",
        "Age of the position, and lost slots",
    },
    "pods": {"Waiting and failed containers", "Containers that restarted"},
    # Fluent Bit sends these, which is not everywhere that the rest is.
    "logs": {"pods", "nodes"},
}
"""Dashboard to titles of panels and legends of queries that may show nothing after a good run."""

_REPLACED = {
    "__rate_interval": "1m",
    "__range": "1h",
    "__interval": "1m",
    "__auto": "1m",
    "text": "",
}
_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_TIME = re.compile(r"\[[^\]]*\]|\boffset \w+")
# A name that is no function, with the content of its braces.
_SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\b(?![\w:]*\s*\()(?:\{([^}]*)\})?")


@dataclass(frozen=True)
class Query:
    """A query with its variables filled in, and its origin."""

    where: str
    language: Literal["promql", "logql"]
    text: str
    has_data: bool
    """Whether it must find something after a run that went well."""

    def __str__(self) -> str:
        return self.where

    @property
    def is_of_lines(self) -> bool:
        """Whether it finds lines and not numbers, so that Loki answers it over a range only."""
        return self.language == "logql" and self.text.lstrip().startswith("{")

    @property
    def metrics(self) -> dict[str, set[str]]:
        """The metrics that a query of PromQL reads, with the labels that they are selected by."""
        text = _TIME.sub(" ", _GROUPING.sub(" ", _STRING.sub('""', self.text)))
        found: dict[str, set[str]] = {}
        for name, matchers in _SELECTOR.findall(text):
            if name not in _WORDS:
                found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        return found

    @property
    def grouped_by(self) -> set[str]:
        """The labels by which a query of PromQL groups and joins."""
        return {label for labels in _GROUPING.findall(self.text) for label in re.findall(r"\w+", labels)}


def queries(run_id: str = ".+") -> Iterator[Query]:
    """All of them; `run_id` is filled in for a dashboard's variable of runs."""
    yield from panel_queries(run_id)
    yield from variable_queries()
    yield from rule_queries()


def panel_queries(run_id: str = ".+") -> Iterator[Query]:
    """Each query of each panel."""
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        variables = _REPLACED | {variable["name"]: ".+" for variable in _variables(dashboard)} | {"text": ""}
        variables["run_id"] = run_id
        for panel in dashboard["panels"]:
            for target in panel.get("targets") or []:
                title, legend = panel["title"], target["legendFormat"]
                yield Query(
                    where=f"dashboard {dashboard['title']}, panel {title}, query {target['refId']} ({legend})",
                    language="promql" if target["datasource"]["type"] == "prometheus" else "logql",
                    text=_filled(target["expr"], variables),
                    has_data=not EMPTY_IS_WELL.get(dashboard["uid"], set()) & {title, legend},
                )


def variable_queries() -> Iterator[Query]:
    """The query behind each variable: the series or streams whose label it lists."""
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for variable in _variables(dashboard):
            if variable["type"] != "query":
                continue
            if variable["datasource"]["type"] == "prometheus":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert found, variable["query"]
                text, language = f"group by ({found[2]}) ({found[1]})", "promql"
            else:
                text, language = variable["query"]["stream"], "logql"
            everything = {each["name"]: ".+" for each in _variables(dashboard)}
            where = f"dashboard {dashboard['title']}, variable {variable['name']}"
            yield Query(where, language, _filled(text, everything), has_data=True)  # type: ignore[arg-type]


def rule_queries() -> Iterator[Query]:
    """The expression of each rule. Those of alerts return nothing if all is well."""
    for file, rule in rules():
        is_alert = "alert" in rule
        name = rule["alert"] if is_alert else rule["record"]
        has_data = not is_alert and not name.startswith("container:oom_killed")
        yield Query(f"rules {file.name}, {name}", "promql", rule["expr"], has_data)


def rules() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each rule, with the file that it stands in."""
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield file, rule


def _variables(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return list((dashboard.get("templating") or {}).get("list") or [])


def _filled(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: variables[found[1]], text)
