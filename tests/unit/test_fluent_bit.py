"""What Fluent Bit's configuration does with lines that containerd wrote, read as its manual says: see the reader."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from etl_task_logs.identity import Identity
from etl_task_logs.sender import print_undelivered

from tests.support.fluent_bit import Pipeline, Sent, path_of

CONFIGURATION = (
    Path(__file__).resolve().parents[2] / "k8s" / "base" / "observability" / "fluent-bit" / "fluent-bit.yaml"
)
RECORDED = Path(__file__).parent / "container_logs"
"""Logs of a real deployment, as containerd wrote them, under the names that the kubelet gave them."""
PIPELINE = Pipeline(CONFIGURATION)
OPTIONS = {
    "tail": {
        "path", "exclude_path", "db", "multiline.parser", "refresh_interval", "rotate_wait", "read_from_head",
        "buffer_max_size", "skip_long_lines",
    },
    "systemd": {"path", "db", "read_from_tail"},
    "grep": {"regex"},
    "parser": {"key_name", "parser", "reserve_data"},
    "modify": {"remove"},
    "rewrite_tag": {"rule", "emitter_storage.type"},
    "kubernetes": {"kube_tag_prefix", "merge_log", "annotations", "buffer_size"},
    "record_modifier": {"allowlist_key"},
    "loki": {
        "host", "port", "labels", "structured_metadata", "remove_keys", "line_format", "drop_single_key", "workers",
        "retry_limit",
    },
}  # fmt: skip
"""Those options of each plugin that its manual names and that are used here."""
FOR_ALL = {"name", "tag", "match", "storage.type", "storage.pause_on_chunks_overlimit", "storage.total_limit_size"}
JOURNAL = {
    "MESSAGE": "Out of memory: Killed process 4242 (etl)",
    "PRIORITY": "3",
    "SYSLOG_IDENTIFIER": "kernel",
    "_HOSTNAME": "node-1",
    "_TRANSPORT": "kernel",
    "_BOOT_ID": "0",
}


def recorded(beginning: str) -> Path:
    (found,) = RECORDED.glob(f"{beginning}*.log")
    return found


def sent(file: Path, **labels: str) -> list[Sent]:
    return PIPELINE.container_lines(f"/var/log/containers/{file.name}", file.read_text(), labels)


def plugins() -> list[dict[str, Any]]:
    return [plugin for kind in ("inputs", "filters", "outputs") for plugin in PIPELINE.plugins(kind)]


@pytest.mark.parametrize("plugin", plugins(), ids=lambda plugin: str(plugin["name"]))
def test_an_option_is_one_that_the_plugin_has(plugin: dict[str, Any]) -> None:
    assert plugin.keys() <= OPTIONS[plugin["name"]] | FOR_ALL


@pytest.mark.parametrize("file", sorted(RECORDED.iterdir()), ids=lambda file: file.name.partition("_")[0])
def test_every_container_is_read_once(file: Path) -> None:
    assert len(PIPELINE.tags(f"/var/log/containers/{file.name}")) == 1


def test_its_own_lines_are_not_read_for_a_complaint_would_make_the_next() -> None:
    own = f"/var/log/containers/fluent-bit-abcde_observability-node_fluent-bit-{'0' * 64}.log"
    assert PIPELINE.tags(own) == []


@pytest.mark.parametrize("file", sorted(RECORDED.glob("*_base-*")), ids=lambda file: file.name.partition("_")[0])
def test_what_workers_and_steps_print_is_left_to_the_log_of_the_task(file: Path) -> None:
    assert file.read_text().splitlines()
    assert sent(file) == []


@pytest.mark.parametrize("container", ["orders-etl-plan-x_etl-poc_base", "airflow-triggerer-x_etl-poc_airflow"])
def test_a_line_that_could_not_be_sent_is_sent_with_its_identity(
    container: str, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = Identity.of("dag_id=orders_etl/run_id=manual__2026-11-25T13:00:00+00:00/task_id=plan/attempt=1.log")
    assert identity
    print_undelivered(identity, ['{"event": "the last words", "level": "info"}'], reason="too long")
    printed = [*capsys.readouterr().out.splitlines(), '{"event": "something else"}']
    text = "".join(f"2026-11-25T13:00:02.000000001Z stdout F {line}\n" for line in printed)
    lines = PIPELINE.container_lines(f"/var/log/containers/{container}-{'0' * 64}.log", text, {})
    (line,) = [line for line in lines if line.labels["job"] == "airflow-task"]
    assert (line.labels, line.metadata) == (identity.labels, identity.metadata)
    assert json.loads(line.line).items() >= {"event": "the last words", "level": "info", "reason": "too long"}.items()
    assert sum("the last words" in line.line for line in lines) == 1


def test_a_line_of_plain_text_stays_as_it_was() -> None:
    file = recorded("metadata-postgres")
    lines = sent(file, **{"app.kubernetes.io/name": "metadata-postgres"})
    assert {tuple(line.labels.items()) for line in lines} == {
        (("job", "pods"), ("namespace", "etl-poc"), ("app", "metadata-postgres"), ("container", "postgres"))
    }
    assert [line.metadata for line in lines] == [{"pod": "metadata-postgres-0", "node": "node-1"}] * len(lines)
    assert [line.line for line in lines] == [line.split(" ", 3)[3] for line in file.read_text().splitlines()]


def test_the_fields_of_json_can_be_asked_for() -> None:
    file = recorded("mssql-init-job")
    assert all('"event": ' in line.line for line in sent(file))


def test_a_pod_that_is_gone_before_its_labels_were_asked_for_still_has_its_name() -> None:
    (first, *_) = sent(recorded("airflow-scheduler"))
    assert first.labels == {"job": "pods", "namespace": "etl-poc", "container": "airflow"}
    assert first.metadata["pod"].startswith("airflow-scheduler-")


def test_a_long_line_is_one_line_again() -> None:
    text = f"2026-11-25T13:00:00.1Z stdout P {'a' * 16384}\n2026-11-25T13:00:00.1Z stdout F b\n"
    (line,) = PIPELINE.container_lines(f"/var/log/containers/{recorded('airflow-scheduler').name}", text, {})
    assert line.line == "a" * 16384 + "b"


def test_what_the_node_says_has_the_program_as_its_unit() -> None:
    (line,) = PIPELINE.send("node", JOURNAL)
    assert line.labels == {"job": "node", "unit": "kernel"}
    assert line.metadata == {"node": "node-1", "priority": "3"}
    assert line.line == "Out of memory: Killed process 4242 (etl)"


@pytest.mark.parametrize("output", PIPELINE.plugins("outputs"), ids=lambda output: str(output["match"]))
def test_nothing_is_dropped_because_loki_is_away(output: dict[str, Any]) -> None:
    assert output["retry_limit"] == "no_limits"
    assert re.fullmatch(r"\d+[MG]", output["storage.total_limit_size"])
    assert PIPELINE.content["service"]["scheduler.cap"] <= 10
    assert PIPELINE.content["service"]["storage.path"].startswith("/var/lib/fluent-bit/")


@pytest.mark.parametrize("source", PIPELINE.plugins("inputs"), ids=lambda source: str(source["tag"]))
def test_a_restart_goes_on_where_it_was(source: dict[str, Any]) -> None:
    assert source["db"].startswith("/var/lib/fluent-bit/")
    assert source["storage.type"] == "filesystem"
    others = [one["db"] for one in PIPELINE.plugins("inputs") if one is not source]
    assert source["db"] not in others


@pytest.mark.parametrize("source", PIPELINE.plugins("inputs")[:2], ids=lambda source: str(source["tag"]))
def test_a_pod_that_lives_two_seconds_is_read(source: dict[str, Any]) -> None:
    assert source["refresh_interval"] == 1
    assert source["read_from_head"] is True


@pytest.mark.parametrize("output", PIPELINE.plugins("outputs"), ids=lambda output: str(output["match"]))
def test_what_is_different_for_each_run_or_pod_is_no_label(output: dict[str, Any]) -> None:
    labels = [pair.strip().split("=", 1) for pair in output["labels"].split(",")]
    keys = {(path_of(value) or [value])[-1] for _, value in labels}
    assert not keys & {"run_id", "pod_name", "pod_id", "docker_id", "try_number", "map_index", "_SYSTEMD_UNIT"}
