"""`apply-all.sh down`: what is deleted, and what stays since the data needs it."""

import errno
import json
import os
from pathlib import Path

import pytest

from ops.deploy.cli import main
from ops.deploy.data.volumes import data_folders, data_home
from ops.deploy.manifests.rendering import DATA_FOLDER
from ops.deploy.secrets.secrets import KEPT_FILE
from tests.doubles.fake_cluster import FakeCluster, named


@pytest.fixture
def cluster(cluster: FakeCluster) -> FakeCluster:
    """A cluster with a deployment whose databases hold data."""
    assert main(cluster.arguments()) == 0
    (cluster.data / "mssql" / "data.mdf").write_text("rows")
    cluster.forget_calls()
    return cluster


def deleted(cluster: FakeCluster) -> list[str]:
    calls = [json.loads(call["stdin"])["items"] for call in cluster.calls("delete") if call["stdin"]]
    return [f"{item['kind']}/{item['metadata']['name']}" for items in calls for item in items]


def test_airflow_goes_before_what_it_needs_and_what_the_data_needs_stays(cluster: FakeCluster) -> None:
    assert main(["down", *cluster.arguments()]) == 0
    names = deleted(cluster)
    for needed in ("StatefulSet/metadata-postgres", "StatefulSet/mssql", "StatefulSet/loki"):
        assert names.index("Deployment/airflow-scheduler") < names.index(needed)
    assert "EndpointSlice/source-postgres" in names
    kinds = {key.partition("/")[0] for key in cluster.objects}
    data = {"PersistentVolume", "PersistentVolumeClaim", "Secret"}
    # What ends may still talk: a worker sends the end of its log.
    assert kinds == {"Node", "Namespace", "ConfigMap", "NetworkPolicy", *data}
    assert (cluster.data / "mssql" / "data.mdf").read_text() == "rows"
    assert "Data, Secrets and the namespaces etl-poc, observability, observability-node stay" in cluster.said().out


def test_it_removes_the_overlay_that_was_deployed(cluster: FakeCluster) -> None:
    assert main(["down", *(word for word in cluster.arguments() if not word.startswith("--overlay"))]) == 0
    assert "Deployment/airflow-scheduler" not in cluster.objects


def test_pods_of_tasks_that_still_run_go_as_well(cluster: FakeCluster) -> None:
    assert main(["down", *cluster.arguments()]) == 0
    assert [call["argv"] for call in cluster.calls("--selector=dag_id")]


def test_what_another_overlay_left_goes_as_well(cluster: FakeCluster) -> None:
    cluster.change("Deployment/pgbouncer", named("Deployment", "pgbouncer", "metadata"))
    assert main(["down", *cluster.arguments()]) == 0
    assert "Deployment/pgbouncer" not in cluster.objects


def test_what_still_holds_a_volume_goes_before_it_and_after_airflow(cluster: FakeCluster) -> None:
    cluster.change("Job/backup-list", named("Job", "backup-list", "backup"))
    assert main(["down", "--delete-data", "--yes", *cluster.arguments()]) == 0
    names = deleted(cluster)
    # A claim stays for as long as there is a pod that names it, also one that has ended.
    order = ["Deployment/airflow-scheduler", "Job/backup-list", "PersistentVolumeClaim/mssql"]
    assert sorted(order, key=names.index) == order


def test_after_down_everything_comes_back_with_the_same_passwords(cluster: FakeCluster) -> None:
    before = cluster.objects
    assert main(["down", *cluster.arguments()]) == 0
    assert main(cluster.arguments()) == 0
    assert cluster.objects == before


def test_data_is_deleted_only_when_asked_for_and_confirmed(cluster: FakeCluster) -> None:
    assert main(["down", "--delete-data", *cluster.arguments()]) == 1
    assert "give --yes" in cluster.said().err
    assert cluster.changes() == []
    assert main(["down", "--delete-data", "--yes", *cluster.arguments()]) == 0
    assert deleted(cluster)[-1] == "Namespace/observability"
    assert not cluster.data.exists()
    assert "etl-poc/data" not in cluster.objects["Node/one"]["metadata"]["labels"]


@pytest.mark.parametrize(("typed", "code"), [("delete", 0), ("yes", 1)])
def test_the_confirmation_is_a_word(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: typed)
    assert main(["down", "--delete-data", *cluster.arguments()]) == code
    assert cluster.data.exists() == (code == 1)


def test_what_else_lies_in_the_data_folder_stays(cluster: FakeCluster) -> None:
    (cluster.data / "mine").touch()
    assert main(["down", "--delete-data", "--yes", *cluster.arguments()]) == 0
    assert [path.name for path in cluster.data.iterdir()] == ["mine"]


@pytest.fixture
def moved(cluster: FakeCluster) -> FakeCluster:
    """The deployment after it has moved to an overlay without SQL Server: the volume and its claim have stayed."""
    objects = cluster.objects
    objects["PersistentVolume/etl-poc-mssql"]["spec"]["claimRef"] = {"namespace": "etl-poc", "name": "mssql"}
    cluster.set(objects=objects)
    names = ("mssql", "etl-poc-mssql", "mssql-init-job")
    cluster.objects_to_render = [one for one in cluster.objects_to_render if one["metadata"]["name"] not in names]
    cluster.write_overlay()
    assert main(cluster.arguments()) == 0
    cluster.forget_calls()
    return cluster


def test_with_all_data_goes_that_of_a_volume_which_the_overlay_has_no_more(moved: FakeCluster) -> None:
    moved.said()
    assert main(["down", "--delete-data", "--dry-run", *moved.arguments()]) == 0
    shown = moved.said().out.splitlines()
    for what in ("PersistentVolumeClaim mssql", "PersistentVolume etl-poc-mssql", moved.data / "mssql"):
        assert f"  delete {what}" in shown
    assert main(["down", "--delete-data", "--yes", *moved.arguments()]) == 0
    assert not {"PersistentVolume/etl-poc-mssql", "PersistentVolumeClaim/mssql"} & moved.objects.keys()
    assert not moved.data.exists()


def test_a_folder_that_only_bears_the_name_of_a_volume_stays_and_is_told(moved: FakeCluster) -> None:
    """One left by an interrupted attempt, or by another tool."""
    for name in ("mssql", "metadata"):
        moved.change(f"PersistentVolume/etl-poc-{name}", None)
    arguments = [word for word in moved.arguments() if not word.startswith("--data-folder")]
    assert main(["down", "--delete-data", "--yes", *arguments]) == 0
    assert {path.name for path in moved.data.iterdir()} == {"mssql", KEPT_FILE}
    assert f"{moved.data / 'mssql'} may hold data of an earlier overlay" in moved.said().out


def test_where_volumes_are_scattered_a_volume_elsewhere_does_not_say_where_the_others_are() -> None:
    plan_pulls = {"etl-poc-mssql": Path(DATA_FOLDER / "mssql"), "etl-poc-backup": Path("/mnt/backup")}
    live = {"etl-poc-backup": {"spec": {"local": {"path": "/mnt/backup"}}}}
    assert data_home(live, plan_pulls) is None
    assert data_folders(live, plan_pulls) == list(plan_pulls.values())


def test_without_delete_data_such_a_volume_stays(moved: FakeCluster) -> None:
    assert main(["down", *moved.arguments()]) == 0
    assert {"PersistentVolume/etl-poc-mssql", "PersistentVolumeClaim/mssql"} <= moved.objects.keys()


def fail_to_remove(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Make the removal of folders of that name fail."""
    remove = os.rmdir

    def rmdir(path: os.PathLike[str], *, dir_fd: int | None = None) -> None:
        if Path(path).name == name:
            raise OSError(number, os.strerror(number), str(path))
        remove(path, dir_fd=dir_fd)

    monkeypatch.setattr("os.rmdir", rmdir)


def test_a_folder_where_a_disk_is_mounted_is_emptied(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_remove(monkeypatch, "mssql", errno.EBUSY)
    assert main(["down", "--delete-data", "--yes", *cluster.arguments()]) == 0
    assert f"Emptied {cluster.data / 'mssql'}, where a disk is mounted" in cluster.said().out
    assert [path.name for path in cluster.data.rglob("*")] == ["mssql"]


def test_the_passwords_stay_for_as_long_as_data_does(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    (cluster.data / "mssql" / "logs").mkdir()
    fail_to_remove(monkeypatch, "logs", errno.EPERM)
    assert main(["down", "--delete-data", "--yes", *cluster.arguments()]) == 1
    told = cluster.said().err
    assert f"{cluster.data / 'mssql'} could not be deleted (Operation not permitted)" in told
    assert f"then {cluster.data / KEPT_FILE}" in told
    assert {path.name for path in cluster.data.iterdir()} == {"mssql", KEPT_FILE}


def test_a_dry_run_deletes_nothing(cluster: FakeCluster) -> None:
    assert main(["down", "--delete-data", "--dry-run", *cluster.arguments()]) == 0
    assert f"delete {cluster.data / 'mssql'}" in cluster.said().out
    assert cluster.changes() == []
