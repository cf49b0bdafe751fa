"""Fluent Bit's configuration on lines that containerd wrote, interpreted by its manual: see doubles/fluent_bit.py."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.sender import print_undelivered

from tests.doubles.fluent_bit import Pipeline, Sent

CONFIGURATION = (
    Path(__file__).resolve().parents[2] / "k8s" / "base" / "observability" / "fluent-bit" / "fluent-bit.yaml"
)
RECORDED = Path(__file__).parent / "container_logs"
"""Logs of a real deployment, as containerd wrote them, under names as the kubelet gives them."""
LOGS = sorted(RECORDED.glob("*/*/*.log"))
PIPELINE = Pipeline(CONFIGURATION, {"NODE_NAME": "node-1"})
OPTIONS = {
    "tail": {
        "path", "exclude_path", "path_key", "db", "multiline.parser", "refresh_interval", "rotate_wait", "ignore_older",
        "read_from_head", "buffer_max_size", "skip_long_lines",
    },
    "systemd": {"path", "db", "read_from_tail"},
    "http": {"port", "enable_health_endpoint", "buffer_max_size"},
    "grep": {"regex"},
    "parser": {"key_name", "parser", "reserve_data", "preserve_key"},
    "modify": {"remove"},
    "rewrite_tag": {"rule", "emitter_name", "emitter_storage.type"},
    "record_modifier": {"allowlist_key"},
    "loki": {
        "host", "port", "tenant_id", "net.connect_timeout", "net.io_timeout", "net.max_worker_connections", "labels",
        "structured_metadata", "line_format", "drop_single_key", "workers", "retry_limit",
    },
}  # fmt: skip
"""Those options of each plugin that its manual names and that are used here."""
FOR_ALL = {"name", "alias", "tag", "match", "storage.type", "storage.total_limit_size"}
JOURNAL = {
    "MESSAGE": "Out of memory: Killed process 4242 (etl)",
    "PRIORITY": "3",
    "SYSLOG_IDENTIFIER": "kernel",
    "_HOSTNAME": "node-1.example.org",
    "_TRANSPORT": "kernel",
    "_BOOT_ID": "0",
}


def recorded(pod: str) -> Path:
    (found,) = RECORDED.glob(f"*_{pod}*/*/0.log")
    return found


def deployed(file: Path) -> str:
    """The path that a recorded log has on a node."""
    return f"/var/log/pods/{file.relative_to(RECORDED)}"


def path(pod: str, container: str = "main", namespace: str = "etl-poc", file: str = "0.log") -> str:
    return f"/var/log/pods/{namespace}_{pod}_bf2a4067-a4e4-5f64-b118-231b276ae01d/{container}/{file}"


def printed(*lines: str) -> str:
    return "".join(f"2026-11-25T13:00:02.000000001Z stdout F {line}\n" for line in lines)


def sent(file: Path) -> list[Sent]:
    return PIPELINE.container_lines(deployed(file), file.read_text())


def plugins() -> list[dict[str, Any]]:
    return [plugin for kind in ("inputs", "filters", "outputs") for plugin in PIPELINE.plugins(kind)]


@pytest.mark.parametrize("plugin", plugins(), ids=lambda plugin: str(plugin["name"]))
def test_an_option_is_one_that_the_plugin_has(plugin: dict[str, Any]) -> None:
    assert plugin.keys() <= OPTIONS[plugin["name"]] | FOR_ALL


def pod_of(file: Path) -> str:
    return file.parents[1].name.split("_")[1]


@pytest.mark.parametrize("file", LOGS, ids=pod_of)
@pytest.mark.parametrize("name", ["0.log", "3.log", "0.log.20261125-135003"])
def test_every_container_is_read_once_also_where_the_kubelet_has_renamed_its_log(file: Path, name: str) -> None:
    assert len(PIPELINE.readers(deployed(file.with_name(name)))) == 1


@pytest.mark.parametrize("file", LOGS, ids=pod_of)
@pytest.mark.parametrize("name", ["0.log.20261125-135003.gz", "0.log.20261125-135003.tmp"])
def test_what_the_kubelet_packs_has_been_read(file: Path, name: str) -> None:
    assert not PIPELINE.readers(deployed(file.with_name(name)))


@pytest.mark.parametrize("namespace", ["default", "kube-system", "etl-poc-2", "another"])
def test_of_other_namespaces_nothing_is_read(namespace: str) -> None:
    assert not PIPELINE.readers(path("coredns-58c7f67796-fdm79", "coredns", namespace))


@pytest.mark.parametrize("program", ["sshd", "sudo", "CRON", "systemd", "postfix/smtpd"])
def test_of_the_journal_nobodys_logins_and_commands_are_read(program: str) -> None:
    assert list(PIPELINE.send("node", JOURNAL | {"SYSLOG_IDENTIFIER": program})) == []
    assert len(list(PIPELINE.send("node", JOURNAL | {"SYSLOG_IDENTIFIER": "k3s"}))) == 1


@pytest.mark.parametrize("pod", ["mssql-0", "airflow-api-server-x", "orders-etl-load-x", "airflow-scheduler-x"])
def test_no_other_pod_writes_the_log_of_a_task(pod: str) -> None:
    forged = json.dumps({"event": "forged", "undelivered": True, "dag_id": "victim", "task_id": "plan"})
    container = "airflow" if pod.startswith("airflow") else "main"
    assert [line.labels["job"] for line in PIPELINE.container_lines(path(pod, container), printed(forged))] == ["pods"]


def test_its_own_lines_are_not_read_for_a_complaint_would_make_the_next() -> None:
    assert not PIPELINE.readers(path("fluent-bit-abcde", "fluent-bit", "observability-node"))


@pytest.mark.parametrize("file", [file for file in LOGS if file.parent.name == "base"], ids=pod_of)
def test_what_workers_and_steps_print_is_left_to_the_log_of_the_task(file: Path) -> None:
    assert file.read_text().splitlines()
    assert sent(file) == []


@pytest.mark.parametrize(("pod", "container"), [("orders-etl-plan-x", "base"), ("airflow-triggerer-x", "airflow")])
def test_a_line_that_could_not_be_sent_is_sent_with_its_identity(
    pod: str, container: str, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = Identity.of("dag_id=orders_etl/run_id=manual__2026-11-25T13:00:00+00:00/task_id=plan/attempt=1.log")
    assert identity
    print_undelivered(identity, ['{"event": "the last words", "level": "info"}'], reason="too long")
    text = printed(*capsys.readouterr().out.splitlines(), '{"event": "something else"}')
    lines = PIPELINE.container_lines(path(pod, container), text)
    (line,) = [line for line in lines if line.labels["job"] == "airflow-task"]
    assert (line.labels, line.metadata) == (identity.labels, identity.metadata)
    assert json.loads(line.line).items() >= {"event": "the last words", "level": "info", "reason": "too long"}.items()
    assert sum("the last words" in line.line for line in lines) == 1


@pytest.mark.parametrize("pod", ["metadata-postgres", "mssql-init-job", "database-exporter", "loki"])
def test_a_line_stays_as_it_was_printed(pod: str) -> None:
    file = recorded(pod)
    assert [line.line for line in sent(file)] == [line.split(" ", 3)[3] for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    "line",
    ['{"event": "only this"}', '{"id": 36893488147419103232}', '{"a": 1} and more', '{"log": "a", "file": "b"}', "[1]"],
)
def test_what_json_allows_does_not_change_a_line(line: str) -> None:
    (found,) = PIPELINE.container_lines(path("grafana-5d8f6c7b9-x2x4z"), printed(line))
    assert found.line == line
    assert found.labels["app"] == "grafana"


def test_where_a_line_is_from_is_known_from_the_name_of_its_file() -> None:
    lines = sent(recorded("metadata-postgres"))
    assert {tuple(line.labels.items()) for line in lines} == {
        (("job", "pods"), ("namespace", "etl-poc"), ("app", "metadata-postgres"), ("container", "postgres"))
    }
    assert [line.metadata for line in lines] == [{"pod": "metadata-postgres-0", "node": "node-1"}] * len(lines)


@pytest.mark.parametrize(
    ("pod", "app"),
    [
        ("airflow-scheduler-58c7f67796-fdm79", "airflow-scheduler"),
        ("database-exporter-d9f7b9885-bd88l", "database-exporter"),
        ("sink-backup-29401320-4kx2p", "sink-backup"),
        ("mssql-0", "mssql"),
        ("mssql-init-job-9z87n", "mssql-init-job"),
        ("node-exporter-zc9jl", "node-exporter"),
        ("by-hand", "by-hand"),
    ],
)
def test_the_app_is_what_the_pod_was_made_by(pod: str, app: str) -> None:
    (line,) = PIPELINE.container_lines(path(pod), printed("a"))
    assert (line.labels["app"], line.metadata["pod"]) == (app, pod)


def test_a_line_can_be_found_by_the_run_that_it_names() -> None:
    of_a_run = {"run_id": "manual__2026-11-25T13:00:00+00:00", "pipeline": "a", "step": "load", "partition": "0001"}
    texts = [json.dumps({"event": "done", **of_a_run}), json.dumps({**of_a_run, "n": 1}, separators=(",", ":"))]
    lines = PIPELINE.container_lines(path("by-hand"), printed(*texts, f"no JSON: {texts[0]}"))
    assert [line.metadata.items() >= of_a_run.items() for line in lines] == [True, True, False]


def test_a_long_line_is_one_line_again() -> None:
    text = f"2026-11-25T13:00:00.1Z stdout P {'a' * 16384}\n2026-11-25T13:00:00.1Z stdout F b\n"
    (line,) = PIPELINE.container_lines(deployed(recorded("airflow-scheduler")), text)
    assert line.line == "a" * 16384 + "b"


def test_what_the_node_says_has_the_program_as_its_unit() -> None:
    (line,) = PIPELINE.send("node", JOURNAL)
    assert line.labels == {"job": "node", "unit": "kernel"}
    assert line.metadata == {"node": "node-1", "priority": "3"}
    assert line.line == "Out of memory: Killed process 4242 (etl)"


@pytest.mark.parametrize("output", PIPELINE.plugins("outputs"), ids=lambda output: str(output["match"]))
def test_what_is_different_for_each_run_or_pod_is_no_label(output: dict[str, Any]) -> None:
    labels = [pair.strip().split("=", 1) for pair in output["labels"].split(",")]
    keys = {value.removeprefix("$") for _, value in labels}
    assert not keys & {"run_id", "pod", "file", "try_number", "map_index", "_SYSTEMD_UNIT"}


@pytest.mark.parametrize("source", PIPELINE.plugins("inputs"), ids=lambda source: str(source["alias"]))
def test_nothing_but_the_disk_bounds_what_is_read(source: dict[str, Any]) -> None:
    """While reading is paused, lines removed or compressed meanwhile are lost; the buffer has room for them."""
    assert not {"mem_buf_limit", "storage.pause_on_chunks_overlimit"} & source.keys()


def test_each_input_keeps_how_far_it_has_read_in_a_file_of_its_own() -> None:
    files = [source["db"] for source in PIPELINE.plugins("inputs") if "db" in source]
    assert len(files) == len(set(files)) == len([one for one in PIPELINE.plugins("inputs") if one["name"] != "http"])


@pytest.mark.parametrize("output", PIPELINE.plugins("outputs"), ids=lambda output: str(output["match"]))
def test_loki_may_be_away_or_silent(output: dict[str, Any]) -> None:
    """Losses otherwise, measured: the table on Fluent Bit in docs/observability.md."""
    assert output["retry_limit"] == "no_limits"
    assert re.fullmatch(r"\d+[MG]", output["storage.total_limit_size"])
    assert output["net.io_timeout"] == "30s"
