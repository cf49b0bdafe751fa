"""`apply-all.sh down`: what goes, and what stays because the data needs it."""

import json
from pathlib import Path

import pytest

from scripts.deploy.cli import main
from tests.support.fake_cluster import FakeCluster, named, prepare


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster with a deployment whose databases hold data."""
    cluster = prepare(tmp_path, monkeypatch)
    assert main(cluster.arguments()) == 0
    (cluster.data / "mssql" / "data.mdf").write_text("rows")
    cluster.forget_calls()
    return cluster


def deleted(cluster: FakeCluster) -> list[str]:
    calls = [json.loads(call["stdin"])["items"] for call in cluster.calls("delete") if call["stdin"]]
    return [f"{item['kind']}/{item['metadata']['name']}" for items in calls for item in items]


def test_airflow_goes_before_what_it_needs_and_what_the_data_needs_stays(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert "Data, Secrets and the namespaces etl-poc, observability, observability-node stay" in capsys.readouterr().out


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


def test_data_is_deleted_only_when_asked_for_and_confirmed(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["down", "--delete-data", *cluster.arguments()]) == 1
    assert "give --yes" in capsys.readouterr().err
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


def test_a_dry_run_deletes_nothing(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--delete-data", "--dry-run", *cluster.arguments()]) == 0
    assert f"delete {cluster.data / 'mssql'}" in capsys.readouterr().out
    assert cluster.changes() == []
