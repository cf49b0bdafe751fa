"""Retention: the figures of docs/personal-data.md are those of the manifests and settings."""

import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from etl.config.settings import Settings
from etl.steps import erase

from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import pods_of
from tests.harness.manifests.rendering import rendering

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "k8s" / "base" / "observability"


@cache
def documented() -> dict[str, str]:
    """For each thing that is kept, how long, as the table says."""
    text = (ROOT / "docs" / "personal-data.md").read_text()
    table = text.partition("## How long what is kept\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]*) ?\|$", table, re.MULTILINE)[2:]
    return {what: how_long for what, _, how_long, _ in rows}


def days(what: str) -> int:
    """The first figure of a row, in days or nights."""
    found = re.match(r"(\d+) (days|nights)", documented()[what])
    assert found, f"{what}: {documented()[what]}"
    return int(found[1])


def words(owner: str) -> str:
    """A pod's commands, and the values of its variables."""
    (pod,) = (pod for pod in pods_of(rendering(DEFAULT)) if pod.owner == owner)
    container = pod.containers[-1]
    variables = [f"{one['name']}={one['value']}" for one in container.content.get("env", []) if "value" in one]
    return " ".join([*container.content.get("args", []), *variables])


def observed(path: str) -> Any:
    return yaml.safe_load((OBSERVABILITY / path).read_text())


def figure(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in {text}"
    return int(found[1])


def test_staging_and_the_audit_are_kept_as_long_as_their_settings_say() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert defaults["staging_retention"] == timedelta(days=days("rows on their way, rejects"))
    assert defaults["audit_retention"] == timedelta(days=days("audit of loads, record of erasures"))
    settings = rendering(DEFAULT).find("ConfigMap", "etl-connections")
    assert settings
    assert not {"STAGING_RETENTION", "AUDIT_RETENTION"} & settings["data"].keys()


def test_runs_are_kept_as_long_as_airflow_clean_says() -> None:
    runs = days("runs, their arguments and labels, Airflow's own audit log")
    assert runs == figure(r"--date='(\d+) days ago'", words("CronJob/airflow-clean")) == erase.METADATA.days


def test_so_many_nights_of_backups_are_kept_as_the_cron_jobs_say() -> None:
    nights = days("backups of both databases")
    assert nights == figure(r"--keep (\d+)", words("CronJob/sink-backup"))
    assert nights == figure(r"KEEP=(\d+)", words("CronJob/metadata-backup"))
    assert nights == erase.BACKUPS.days


def test_lines_are_kept_as_long_as_loki_says() -> None:
    lines = f"{days('lines of tasks, pods, nodes')}d"
    limits = observed("loki/loki.yaml")["limits_config"]
    assert limits["retention_period"] == lines == f"{erase.LOG_LINES.days}d"
    of_audit = observed("loki/overrides.yaml")["overrides"]["audit"]["retention_period"]
    assert of_audit == f"{days('who did what')}d"


def test_the_kubernetes_audit_log_is_kept_as_the_installer_says() -> None:
    text = (ROOT / "ops" / "k3s" / "install.sh").read_text()
    assert figure(r"audit-log-maxage=(\d+)", text) == days("the Kubernetes audit log")
    files, size = figure(r"audit-log-maxbackup=(\d+)", text) + 1, figure(r"audit-log-maxsize=(\d+)", text)
    assert f"{files * size / 1000:.1f} GB at most" in documented()["the Kubernetes audit log"]


def test_lines_that_wait_and_metrics_have_the_room_that_the_table_says() -> None:
    text = (OBSERVABILITY / "fluent-bit" / "fluent-bit.yaml").read_text()
    limits = re.findall(r"storage\.total_limit_size: (\d+)([MG])", text)
    megabytes = sum(int(number) * {"M": 1, "G": 1000}[unit] for number, unit in limits)
    assert f"{megabytes / 1000:.1f} GB at most" in documented()["lines that Loki has not taken"]
    prometheus, metrics = words("StatefulSet/prometheus"), "metrics, which have no values of rows"
    assert figure(r"retention\.time=(\d+)d", prometheus) == days(metrics)
    size = figure(r"retention\.size=(\d+)GB", prometheus)
    assert f"{size} GB at most" in documented()[metrics]
