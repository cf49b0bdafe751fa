"""Every alert fires when it should and not before, has a readable text, and links to a runbook."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.sandbox.stack import ROOT
from tests.harness.metrics.promtool import amtool, promtool
from tests.harness.metrics.queries import OBSERVABILITY, RULES, Query, queries, rules

# Where the tools are not built yet they are first.
pytestmark = pytest.mark.timeout(1800)

ALERTMANAGER = OBSERVABILITY / "alertmanager" / "alertmanager.yml"
PROMETHEUS = OBSERVABILITY / "prometheus" / "prometheus.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
CLAIMS = sorted((ROOT / "tests" / "alerts").glob("*.yml"))
ALERTS = {rule["alert"]: rule for _, rule in rules() if "alert" in rule}
FILES = {rule["alert"]: file.name for file, rule in rules() if "alert" in rule}


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("claims", CLAIMS, ids=named)
def test_the_alerts_fire_when_they_should_and_not_before(claims: Path) -> None:
    promtool("test", "rules", claims)


@pytest.mark.parametrize("name", ALERTS)
def test_for_every_alert_it_is_tried_that_it_fires_and_that_it_does_not(name: str) -> None:
    fires: list[dict[str, Any]] = []
    rests: list[dict[str, Any]] = []
    for claims in map(yaml.safe_load, (file.read_text() for file in CLAIMS)):
        if not claims["rule_files"][0].endswith(f"/{FILES[name]}"):
            continue
        for test in claims["tests"]:
            for claim in test.get("alert_rule_test", []):
                if claim["alertname"] == name:
                    (fires if claim.get("exp_alerts") else rests).append(claim)
            for claim in test.get("promql_expr_test", []):
                found = [each["labels"] for each in claim.get("exp_samples", [])]
                if any(f'alertname="{name}"' in labels for labels in found):
                    fires.append(claim)
                elif name in claim["expr"] or "alertname" not in claim["expr"]:
                    rests.append(claim)
    assert fires != []
    assert rests != []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on(name: str) -> None:
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning")
    annotations = ALERTS[name]["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"docs/runbooks/{name}.md"


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_says_what_it_means_what_to_look_at_and_what_to_do(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^#+ .*", page, re.MULTILINE) == [
        f"# {name}",
        "## Look at first",
        "## Causes, and what to do",
    ]


@pytest.mark.parametrize("file", RULES, ids=named)
def test_prometheus_accepts_the_rules(file: Path) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", file)


def test_prometheus_accepts_its_configuration() -> None:
    promtool("check", "config", "--syntax-only", PROMETHEUS)


def test_prometheus_can_read_every_query_of_the_dashboards(tmp_path: Path) -> None:
    found = [query for query in queries() if query.language == "promql"]
    records = [{"record": f"query:number{number}", "expr": query.text} for number, query in enumerate(found)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", "--lint=none", tmp_path / "rules.yml")


def test_alertmanager_accepts_its_configuration() -> None:
    amtool("check-config", ALERTMANAGER)


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "now"), ("warning", "soon")])
def test_who_is_told_depends_on_how_urgent_it_is(severity: str, receiver: str) -> None:
    told = amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")
    assert told.split() == [receiver]


def test_what_keeps_other_alerts_quiet_is_an_alert_and_so_are_they() -> None:
    configuration: dict[str, Any] = yaml.safe_load(ALERTMANAGER.read_text())
    matchers = [
        matcher
        for rule in configuration["inhibit_rules"]
        for matcher in rule["source_matchers"] + rule["target_matchers"]
        if matcher.startswith("alertname")
    ]
    names = {name for matcher in matchers for name in re.findall(r"[A-Z]\w+", matcher)}
    assert names <= set(ALERTS)
    assert names != set()


def test_a_query_is_taken_apart_into_metrics_and_labels() -> None:
    text = 'sum by (a) (rate(x_total{b="c", d=~"e{2}"}[5m] offset 1m)) / on (a) group_left () y or vector(0)'
    query = Query("here", "promql", text, has_data=True)
    assert query.metrics == {"x_total": {"b", "d"}, "y": set()}
    assert query.grouped_by == {"a"}
