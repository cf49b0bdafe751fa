"""What Grafana shows: written by dev/dashboards, readable on a laptop, of metrics and labels that there are."""

import importlib.util
import json
import re
from itertools import combinations
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse

from dev.dashboards.__main__ import FOLDER, rendered
from dev.sandbox.stack import ROOT
from tests.harness.metrics.documented import documented_metrics
from tests.harness.metrics.queries import DASHBOARDS, EMPTY_IS_WELL, OBSERVABILITY, Query, panel_queries, queries

BUILT_IN = {"__range", "__rate_interval", "__interval", "__url_time_range"}
OWN = ("airflow_", "etl_", "sink_", "metadata_")
"""Beginnings of the names that docs/observability.md has a table of."""
POD = {"namespace", "pod", "uid"}
CONTAINER = POD | {"container"}
OTHERS = {
    "ALERTS": {"alertname", "alertstate", "severity"},
    "up": {"job", "instance"},
    # kube-state-metrics
    "kube_cronjob_created": {"namespace", "cronjob"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
    "kube_node_info": {"node"},
    "kube_node_status_condition": {"node", "condition", "status"},
    "kube_pod_container_resource_limits": CONTAINER | {"resource", "unit", "node"},
    "kube_pod_container_status_last_terminated_reason": CONTAINER | {"reason"},
    "kube_pod_container_status_last_terminated_timestamp": CONTAINER,
    "kube_pod_container_status_restarts_total": CONTAINER,
    "kube_pod_container_status_terminated_reason": CONTAINER | {"reason"},
    "kube_pod_container_status_waiting_reason": CONTAINER | {"reason"},
    "kube_pod_init_container_status_waiting_reason": CONTAINER | {"reason"},
    "kube_pod_info": POD | {"node", "host_ip", "pod_ip", "created_by_kind", "created_by_name"},
    "kube_pod_owner": POD | {"owner_kind", "owner_name", "owner_is_controller"},
    "kube_pod_status_phase": POD | {"phase"},
    "kube_pod_status_ready": POD | {"condition"},
    "kube_resourcequota": {"namespace", "resourcequota", "resource", "type"},
    # The kubelet
    "container_cpu_usage_seconds_total": CONTAINER - {"uid"},
    "container_memory_working_set_bytes": CONTAINER - {"uid"},
    "k3s_certificate_expiration_seconds": {"subject", "usages"},
    "apiserver_validating_admission_policy_check_total": {
        "policy",
        "policy_binding",
        "enforcement_action",
        "error_type",
    },
    "kubelet_volume_stats_available_bytes": {"namespace", "persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"namespace", "persistentvolumeclaim"},
    # node-exporter
    "node_cpu_seconds_total": {"cpu", "mode"},
    "node_filesystem_avail_bytes": {"device", "fstype", "mountpoint", "device_error"},
    "node_filesystem_readonly": {"device", "fstype", "mountpoint", "device_error"},
    "node_filesystem_size_bytes": {"device", "fstype", "mountpoint", "device_error"},
    "node_memory_MemAvailable_bytes": set(),
    "node_memory_MemTotal_bytes": set(),
    "node_vmstat_oom_kill": set(),
    # Loki and Fluent Bit
    "loki_discarded_samples_total": {"tenant", "reason"},
    "loki_distributor_lines_received_total": {"tenant"},
    "fluentbit_input_ingestion_paused": {"name"},
    "fluentbit_input_records_total": {"name"},
    "fluentbit_output_chunk_available_capacity_percent": {"name"},
    "fluentbit_output_dropped_records_total": {"name"},
    "fluentbit_output_proc_records_total": {"name"},
    "fluentbit_output_retries_failed_total": {"name"},
    # What our own rules record
    "dag:ended_runs:count1m": {"dag_id", "state"},
    "dag:last_ended_run:timestamp": {"dag_id", "state"},
    "job_type:airflow_heartbeats:increase2m": {"job_type"},
    "container:oom_killed:max10m": CONTAINER - {"uid"},
}
STREAM_LABELS = {"job", "dag_id", "task_id", "namespace", "app", "container", "unit"}
LINE_LABELS = {"run_id", "map_index", "try_number", "path", "pod", "node", "pipeline", "step", "partition", "level"}

BOARDS: dict[str, dict[str, Any]] = {
    board["uid"]: board for board in (json.loads(path.read_text()) for path in DASHBOARDS)
}
PANELS = [(board, panel) for board in BOARDS.values() for panel in board["panels"] if panel["type"] != "row"]


def title(value: Any) -> str:
    return str(value.get("title", "")) if isinstance(value, dict) else str(value)


def variables(board: dict[str, Any]) -> set[str]:
    return {variable["name"] for variable in board["templating"].get("list", [])}


def known_labels() -> dict[str, set[str]]:
    """Metric to its labels, without those that Prometheus itself adds."""
    known = dict(OTHERS)
    for metric in documented_metrics():
        known[metric.name] = set(metric.labels)
        if metric.kind == "histogram":
            known |= {f"{metric.name}_{part}": set(metric.labels) for part in ("sum", "count")}
            known[f"{metric.name}_bucket"] = {*metric.labels, "le"}
    return known


def links() -> list[tuple[str, str]]:
    """Every link to a dashboard: where it is, and its address."""
    found = [(uid, link["url"]) for uid, board in BOARDS.items() for link in board["links"] if link["url"]]
    for board, panel in PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        found += [(f"{board['uid']}: {panel['title']}", link["url"]) for link in defaults.get("links", [])]
    for source in data_sources():
        fields = source["jsonData"].get("derivedFields", [])
        found += [(source["name"], field["url"].replace("$$", "$")) for field in fields]
    return found + [(view["name"], view["href"]) for view in plugin().external_views]


def data_sources() -> list[dict[str, Any]]:
    file = OBSERVABILITY / "grafana" / "provisioning" / "datasources" / "datasources.yaml"
    found: list[dict[str, Any]] = yaml.safe_load(file.read_text())["datasources"]
    return found


def plugin() -> Any:
    """The class that puts Grafana into Airflow's UI."""
    file = ROOT / "airflow_image" / "etl_airflow" / "web" / "grafana_links.py"
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.GrafanaPlugin


def test_the_dashboards_are_what_their_sources_make() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == rendered(), "Run `make dashboards`."


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=title)
def test_a_panel_says_what_it_shows_in_which_unit(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["type"] in ("logs", "table") or panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"] != []


@pytest.mark.parametrize("board", BOARDS.values(), ids=title)
def test_panels_lie_side_by_side_within_24_columns(board: dict[str, Any]) -> None:
    for panel in board["panels"]:
        # Below three columns a number is cut off on a laptop of 1366 pixels, and so is a graph below eight.
        least = {"stat": 3, "row": 24}.get(panel["type"], 8)
        assert least <= panel["gridPos"]["w"] <= 24 - panel["gridPos"]["x"], panel["title"]
    for one, other in combinations((panel["gridPos"] for panel in board["panels"]), 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=title)
def test_a_title_is_used_once_in_a_dashboard(board: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in board["panels"] if panel["type"] != "row"]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("board", BOARDS.values(), ids=title)
def test_a_variable_that_is_used_is_there(board: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([board["panels"], board["links"], board["templating"]])))
    assert used - BUILT_IN - {"__data", "__all"} <= variables(board)


@pytest.mark.parametrize(("where", "url"), links(), ids=title)
def test_a_link_leads_to_a_dashboard_or_to_airflow_and_gives_it_variables_that_it_has(where: str, url: str) -> None:
    if url.startswith("../"):
        # As many steps up as no page of Grafana is deep: the root of the host, where Airflow is.
        assert url.startswith("../../../../dags")
        return
    found = re.match(r"(?:/grafana)?/d/(\w+)", url)
    assert found
    given = {name.removeprefix("var-") for name in parse_qs(urlsplit(url).query) if name.startswith("var-")}
    assert given <= variables(BOARDS[found[1]])


def test_every_data_source_that_is_asked_is_provisioned() -> None:
    asked = {target["datasource"]["uid"] for _, panel in PANELS for target in panel["targets"]}
    assert asked <= {source["uid"] for source in data_sources()}


@pytest.mark.parametrize("query", [query for query in queries() if query.language == "promql"], ids=str)
def test_a_metric_and_its_labels_are_documented(query: Query) -> None:
    known = known_labels()
    for name, labels in query.metrics.items():
        assert name in known, f"{name} is in no table"
        assert labels <= known[name] | {"job", "instance"}, name
    joined = set().union({"job", "instance"}, *(known[name] for name in query.metrics))
    assert query.grouped_by <= joined


@pytest.mark.parametrize("query", [query for query in queries() if query.language == "logql"], ids=str)
def test_a_label_of_lines_is_one_that_they_are_sent_with(query: Query) -> None:
    (selector,) = re.findall(r"\{([^}]*)\}", query.text)
    assert set(re.findall(r"(\w+)=", selector)) <= STREAM_LABELS
    assert set(re.findall(r"\b(\w+)\s*(?:=~|!~|!=|=)", query.text)) <= STREAM_LABELS | LINE_LABELS


def test_airflow_takes_the_views_of_grafana_each_under_an_address_of_its_own() -> None:
    views = [ExternalViewResponse.model_validate(view) for view in plugin().external_views]
    assert {view.destination for view in views} == {"nav", "dag", "dag_run", "task_instance"}
    assert len({view.url_route for view in views}) == len(views)


def test_what_may_be_empty_is_there() -> None:
    for uid, names in EMPTY_IS_WELL.items():
        panels = [panel for panel in BOARDS[uid]["panels"] if panel["type"] != "row"]
        legends = {target["legendFormat"] for panel in panels for target in panel["targets"]}
        assert names <= legends | {panel["title"] for panel in panels}


def test_no_query_keeps_a_variable() -> None:
    assert [query.where for query in panel_queries() if "$" in query.text] == []


def test_the_dashboards_lie_where_grafana_looks_for_them() -> None:
    file = OBSERVABILITY / "grafana" / "provisioning" / "dashboards" / "dashboards.yaml"
    (provider,) = yaml.safe_load(file.read_text())["providers"]
    deployment = yaml.safe_load((OBSERVABILITY / "grafana" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert provider["options"]["path"] in [mount["mountPath"] for mount in container["volumeMounts"]]
