"""`restore.sh`: what it asks, what it stops, and what it runs in which order."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ops.cluster.names import AIRFLOW_SERVERS
from ops.deploy.data.restore import main
from ops.deploy.secrets.secrets import temporary_secret
from tests.doubles.fake_cluster import FakeCluster, FakeKubectl, workload
from tests.harness.arguments import commands_of, leaks, started_with, value_of

LIST = "\n".join(
    f"{size} {name}"
    for size, name in (
        (3_000_000, "sink-20260102T021500Z.bak"),
        (1_000_000, "metadata-20260101T011500Z.dump"),
        (2_000_000, "sink-20260101T021500Z.bak"),
    )
)
RESTORED = json.dumps({"event": "restore-sink: done", "watermarks": {"orders": "2026-01-02T02:10:00+00:00"}})


@pytest.fixture
def cluster(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A deployment with two backups of the sink and one of the metadata database."""
    monkeypatch.setattr("ops.deploy.data.restore.POLL_SECONDS", 0.05)
    for name in AIRFLOW_SERVERS:
        server = workload("Deployment", name, "airflow", "localhost/etl-airflow:0.1.0")
        server["spec"]["replicas"] = 2 if name == "airflow-scheduler" else 1
        cluster.change(f"Deployment/{name}", server)
    for name in ("metadata-backup", "sink-backup", "airflow-clean", "backup-copy"):
        cluster.change(f"CronJob/{name}", cron_job(name))
    logs = {"job/backup-list": LIST, "job/sink-restore": f"a line\n{RESTORED}\n"}
    cluster.set(logs=logs, raw={"/readyz": "ok"})
    return cluster


def cron_job(name: str) -> dict[str, Any]:
    made = workload("CronJob", name, "backup", "localhost/etl:0.1.0")
    template = made["spec"]["template"] | {"metadata": {"labels": {"app.kubernetes.io/name": name}}}
    labels = {"labels": {"app.kubernetes.io/part-of": "backup"}}
    made["metadata"]["uid"] = "of-the-cron-job"
    made["spec"] = {
        "jobTemplate": {
            "metadata": labels,
            "spec": {"backoffLimit": 2, "activeDeadlineSeconds": 60, "template": template},
        }
    }
    return made


def jobs(cluster: FakeCluster) -> list[dict[str, Any]]:
    """The Jobs that were made, in order."""
    return [item for call in cluster.calls("apply") for item in json.loads(call["stdin"])["items"]]


def words(cluster: FakeCluster) -> list[tuple[str, list[str]]]:
    """Their names, and what they run."""
    found = jobs(cluster)
    return [(job["metadata"]["name"], job["spec"]["template"]["spec"]["containers"][0]["args"]) for job in found]


def replicas(cluster: FakeCluster) -> dict[str, int]:
    return {name: cluster.objects[f"Deployment/{name}"]["spec"]["replicas"] for name in AIRFLOW_SERVERS}


def test_without_a_choice_it_says_what_there_is_and_changes_nothing(cluster: FakeCluster) -> None:
    assert main([]) == 0
    assert [line.split() for line in cluster.said().out.splitlines()[-4:]] == [
        ["MADE", "SIZE", "NAME"],
        ["2026-01-01", "01:15:00", "UTC", "1.0", "MB", "metadata-20260101T011500Z.dump"],
        ["2026-01-01", "02:15:00", "UTC", "2.0", "MB", "sink-20260101T021500Z.bak"],
        ["2026-01-02", "02:15:00", "UTC", "3.0", "MB", "sink-20260102T021500Z.bak"],
    ]
    assert words(cluster) == [("backup-list", ["list"])]
    assert not cluster.calls("scale")


def test_both_are_restored_while_airflow_is_stopped(cluster: FakeCluster) -> None:
    assert main(["--metadata=latest", "--sink=latest", "--yes"]) == 0
    made = words(cluster)
    assert made[1:3] == [
        ("sink-restore", ["etl", "restore-sink", "sink-20260102T021500Z.bak"]),
        ("metadata-restore", ["restore", "metadata-20260101T011500Z.dump"]),
    ]
    assert made[3][0] == "metadata-migrate"
    assert "airflow db migrate" in made[3][1][-1]
    order = [
        (call["argv"][-1].removeprefix("--replicas="), call["argv"][1]) if "scale" in call["argv"] else "restore"
        for call in cluster.calls("scale", "apply")
    ]
    stopped = [number for number, one in enumerate(order) if one[0] == "0"]
    started = [number for number, one in enumerate(order) if one[0] in ("1", "2")]
    restored = [number for number, one in enumerate(order) if one == "restore"][1:]
    assert max(stopped) < min(restored)
    assert max(restored) < min(started)
    assert cluster.calls("--selector=dag_id")
    assert replicas(cluster) == {name: 2 if name == "airflow-scheduler" else 1 for name in AIRFLOW_SERVERS}
    assert "orders    2026-01-02T02:10:00+00:00" in cluster.said().out


def test_a_job_of_a_restore_does_not_count_as_a_backup(cluster: FakeCluster) -> None:
    assert main(["--sink=latest", "--yes"]) == 0
    for job in jobs(cluster):
        assert "ownerReferences" not in job["metadata"]
        # The next apply-all.sh clears it away.
        assert job["metadata"]["labels"] == {"app.kubernetes.io/part-of": "backup"}
        assert job["spec"]["backoffLimit"] == 0


def test_a_restore_has_the_time_that_it_is_given_and_not_that_of_a_backup(cluster: FakeCluster) -> None:
    assert main(["--sink=latest", "--yes", "--timeout=4h"]) == 0
    assert {job["spec"]["activeDeadlineSeconds"] for job in jobs(cluster)} == {4 * 3600}


def test_one_alone_is_restored_by_its_name(cluster: FakeCluster) -> None:
    assert main(["--sink=sink-20260101T021500Z.bak", "--yes"]) == 0
    assert [name for name, _ in words(cluster)] == ["backup-list", "sink-restore"]
    assert words(cluster)[-1][1][-1] == "sink-20260101T021500Z.bak"


def test_the_next_apply_all_makes_the_tables_that_a_restored_sink_lacks(cluster: FakeCluster) -> None:
    cluster.change("Job/mssql-init-job", workload("Job", "mssql-init-job", "mssql", "localhost/etl:0.1.0"))
    assert main(["--metadata=latest", "--yes"]) == 0
    assert "Job/mssql-init-job" in cluster.objects
    cluster.said()
    assert main(["--sink=latest", "--yes"]) == 0
    # One that has ended is not run again.
    assert "Job/mssql-init-job" not in cluster.objects
    assert "has no table there: scripts/apply-all.sh makes it" in cluster.said().out


def test_the_administrator_gets_the_password_of_the_secret(cluster: FakeCluster) -> None:
    assert main(["--metadata=latest", "--yes"]) == 0
    (container,) = jobs(cluster)[-1]["spec"]["template"]["spec"]["containers"]
    (variable,) = container["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "airflow-admin", "key": "ADMIN_PASSWORD"}
    assert f'"${variable["name"]}" | airflow users reset-password' in container["args"][-1]


def test_the_sink_is_restored_by_its_administrator_who_lets_all_logins_in_again(cluster: FakeCluster) -> None:
    nightly = cron_job("sink-backup")
    of_backup = {
        "name": "SINK_BACKUP_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "sink-backup", "key": "before"}},
    }
    nightly["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"] = [of_backup]
    cluster.change("CronJob/sink-backup", nightly)
    assert main(["--sink=latest", "--yes"]) == 0
    (container,) = jobs(cluster)[-1]["spec"]["template"]["spec"]["containers"]
    references = [(variable["name"], variable["valueFrom"]["secretKeyRef"]) for variable in container["env"]]
    assert references == [
        ("SINK_ADMIN_PASSWORD", {"name": "mssql", "key": "MSSQL_SA_PASSWORD"}),
        ("SINK_PASSWORD", {"name": "etl-connections", "key": "SINK_PASSWORD"}),
        ("SINK_EXPORTER_PASSWORD", {"name": "sink-exporter", "key": "SINK_EXPORTER_PASSWORD"}),
        ("SINK_BACKUP_PASSWORD", {"name": "sink-backup", "key": "SINK_BACKUP_PASSWORD"}),
    ]


def test_no_secret_is_an_argument_of_what_a_job_of_a_restore_starts(cluster: FakeCluster, tmp_path: Path) -> None:
    assert main(["--metadata=latest", "--sink=latest", "--fetch", "--yes"]) == 0
    for job in jobs(cluster):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        names = [variable["name"] for variable in container.get("env", [])]
        folder = tmp_path / job["metadata"]["name"]
        folder.mkdir()
        for command in commands_of(container):
            started = started_with(command, {name: value_of(name) for name in names}, folder)
            assert leaks(started, names) == set(), command


def test_copies_are_fetched_first(cluster: FakeCluster) -> None:
    assert main(["--fetch"]) == 0
    assert words(cluster) == [("backup-fetch", ["etl", "copy-backups", "--back"]), ("backup-list", ["list"])]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sink=latest"], "give --yes"),
        (["--sink=sink-1.bak", "--yes"], "there are: sink-20260101T021500Z.bak, sink-20260102T021500Z.bak."),
        (["--sink=metadata-20260101T011500Z.dump", "--yes"], "There is no backup metadata-20260101T011500Z.dump"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_stopped(
    cluster: FakeCluster, arguments: list[str], told: str
) -> None:
    assert main(arguments) == 1
    assert told in cluster.said().err
    assert not cluster.calls("scale")


def test_a_sink_outside_is_told_and_an_empty_volume_too(cluster: FakeCluster) -> None:
    cluster.change("CronJob/backup-copy", None)
    assert main(["--fetch"]) == 1
    assert "copies need the component backup-copy" in cluster.said().err
    cluster.set(logs={})
    assert main(["--metadata=latest", "--yes"]) == 1
    assert "there are: none" in cluster.said().err


def test_where_it_fails_airflow_stays_stopped_and_once_more_mends_all(cluster: FakeCluster) -> None:
    cluster.set(failing=["sink-restore"])
    assert main(["--sink=latest", "--yes"]) == 1
    shown = cluster.said()
    assert "the reason" in shown.err
    assert "Airflow is stopped" in shown.err
    assert RESTORED in shown.out
    assert set(replicas(cluster).values()) == {0}
    cluster.set(failing=[])
    assert main(["--sink=latest", "--yes"]) == 0
    assert set(replicas(cluster).values()) == {1}


def test_without_a_cluster_it_says_why_and_what_to_do_as_the_doctor_does(cluster: FakeCluster) -> None:
    cluster.set(raw={})
    assert main([]) == 1
    told = cluster.said().err
    assert "kubectl cannot reach" in told
    assert "The API server is up and not ready." in told
    assert not words(cluster)


def test_the_private_key_of_encrypted_copies_is_in_the_cluster_only_while_they_are_fetched(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    file = tmp_path / "backup-key.txt"
    file.write_text("# a comment\nAGE-SECRET-KEY-1EXAMPLE\n")
    assert main(["--fetch", f"--identity={file}"]) == 0
    (secret,) = (json.loads(call["stdin"]) for call in cluster.calls("create"))
    assert (secret["metadata"]["name"], list(secret["data"])) == ("backup-identity", ["BACKUP_IDENTITY"])
    assert "Secret/backup-identity" not in cluster.objects
    fetch, listing = jobs(cluster)
    (variable,) = fetch["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variable == {
        "name": "BACKUP_IDENTITY",
        "valueFrom": {"secretKeyRef": {"name": "backup-identity", "key": "BACKUP_IDENTITY"}},
    }
    assert not listing["spec"]["template"]["spec"]["containers"][0].get("env")
    assert not any("AGE-SECRET-KEY" in " ".join(call["argv"]) + call["stdin"] for call in cluster.calls())


def test_where_fetching_fails_the_private_key_goes_too(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("AGE-SECRET-KEY-1EXAMPLE\n")
    cluster.set(failing=["backup-fetch"])
    assert main(["--fetch", f"--identity={tmp_path / 'key'}"]) == 1
    assert "Secret/backup-identity" not in cluster.objects
    assert main(["--fetch", f"--identity={tmp_path / 'none'}"]) == 1
    assert "none cannot be read" in cluster.said().err
    assert main([f"--identity={tmp_path / 'key'}"]) == 1
    assert "add --fetch" in cluster.said().err


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_secret_goes_too_where_the_terminal_does(cluster: FakeCluster, number: signal.Signals) -> None:
    before = signal.signal(number, lambda *_: None)  # without it the tests would end
    try:
        with pytest.raises(KeyboardInterrupt):
            _interrupted(number)
        assert [call["argv"][-4:-1] for call in cluster.calls("delete")][1:] == [["delete", "secret", "of-tests"]]
        assert "Secret/of-tests" not in cluster.objects
    finally:
        signal.signal(number, before)


def _interrupted(number: int) -> None:
    with temporary_secret(FakeKubectl(), "of-tests", {"KEY": "value"}):
        os.kill(os.getpid(), number)
