"""`add-table.sh`: asks the source by a pod, writes files and keeps those that are there, deploys, awaits the DAG."""

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ops.deploy.add import FROM_GIT, main
from tests.doubles.fake_cluster import FakeCluster, prepare, workload
from tests.doubles.http_server import Handler, serving

STOCK = {
    "table": "public.stock", "outcome": "written", "file": "stock_etl.py", "reason": "dbo.stock, key sku",
    "text": 'STOCK = Pipeline(\n    source="public.stock",\n)\n',
}  # fmt: skip
BARE = {"table": "public.bare", "outcome": "refused", "file": "", "reason": "It has no key.", "text": ""}
LINES = [{"event": "TLS of the source is not verified."}, BARE, STOCK]


class FakeAirflow(ThreadingHTTPServer):
    """Shows the DAG stock_etl after two looks, or an error of its file."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.looks = 0
        self.errors: list[dict[str, str]] = [{"filename": "other_etl.py", "stack_trace": "of another"}]


class _Handler(Handler):
    server: FakeAirflow

    def _serve(self) -> None:
        path = self.path.removeprefix("/api/v2")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/auth/token":
            self.answer(201, {"access_token": "x"})
        elif path == "/importErrors":
            self.answer(200, {"import_errors": self.server.errors})
        else:
            assert path == "/dags/stock_etl"
            self.server.looks += 1
            self.answer(*((404, {"detail": "none"}) if self.server.looks < 3 else (200, {})))

    do_GET = do_POST = _serve


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    with serving(server := FakeAirflow()):
        yield server


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of apply-all.sh, which ends well."""
    calls: list[list[str]] = []

    def deploy(words: list[str]) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr("ops.deploy.cli.main", deploy)
    monkeypatch.setattr("ops.deploy.first_run.POLL_SECONDS", 0.01)
    return calls


@pytest.fixture
def cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    airflow: FakeAirflow,
    deployed: list[list[str]],
) -> FakeCluster:
    cluster = prepare(tmp_path, monkeypatch, capsys)
    model = workload("Deployment", "database-exporter", "observability", "localhost/etl:0.1.0")
    spec = model["spec"]["template"]["spec"]
    spec |= {"securityContext": {"runAsUser": 10001, "runAsGroup": 10001}, "volumes": []}
    spec["containers"][0] |= {"volumeMounts": [], "env": []}
    cluster.change("Deployment/database-exporter", model)
    secret = {"kind": "Secret", "metadata": {"name": "airflow-admin", "namespace": "etl-poc"}}
    cluster.change("Secret/airflow-admin", secret | {"data": {"ADMIN_PASSWORD": "eA=="}})
    settings(cluster)
    logs = {"job/etl-new-pipeline": "\n".join(map(json.dumps, LINES))}
    cluster.set(logs=logs, raw={"/readyz": "ok"}, port=airflow.server_address[1])
    return cluster


def settings(cluster: FakeCluster, **data: str) -> None:
    found = {"kind": "ConfigMap", "metadata": {"name": "airflow-common", "namespace": "etl-poc"}}
    cluster.change("ConfigMap/airflow-common", found | {"data": data})


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    (tmp_path / "dags").mkdir()
    return tmp_path / "dags"


def arguments_of_the_pod(cluster: FakeCluster) -> list[str]:
    ((job,),) = (json.loads(call["stdin"])["items"] for call in cluster.calls("apply"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": "etl-connections"}} in container["envFrom"]
    assert job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "etl"
    return list(container["args"])


def test_it_ends_with_the_dag_visible_in_airflow(
    cluster: FakeCluster,
    dags: Path,
    deployed: list[list[str]],
    airflow: FakeAirflow,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["public.*", "--exclude=public.x", "--version=at", "--", "--builder=podman"], dags) == 0
    assert arguments_of_the_pod(cluster) == [
        "etl", "new-pipeline", "--to=-", "--exclude=public.x", "--version=at", "--", "public.*",
    ]  # fmt: skip
    assert {path.name: path.read_text() for path in dags.iterdir()} == {"stock_etl.py": STOCK["text"]}
    assert deployed == [["--builder=podman"]]
    assert airflow.looks == 3
    shown = capsys.readouterr().out
    assert "refused  public.bare  It has no key." in shown
    assert "1 written, 0 skipped, 1 refused." in shown
    assert "stock_etl is in Airflow, and paused" in shown
    assert "Job/etl-new-pipeline" not in cluster.objects


def test_a_dry_run_shows_the_file_and_changes_nothing(
    cluster: FakeCluster, dags: Path, deployed: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["public.stock", "--dry-run"], dags) == 0
    shown = capsys.readouterr().out
    assert "would be written public.stock" in shown
    assert str(STOCK["text"]) in shown
    assert not list(dags.iterdir())
    assert deployed == []


@pytest.mark.parametrize(
    ("name", "text", "words", "code"),
    [
        ("mine_etl.py", 'source="public.stock"', "skipped  public.stock  dags/mine_etl.py reads it already.", 0),
        ("stock_etl.py", 'source="crm.stock"', "refused  public.stock  dags/stock_etl.py is of another table", 1),
    ],
)
def test_a_file_that_is_there_is_kept(
    cluster: FakeCluster, dags: Path, deployed: list[list[str]], capsys: pytest.CaptureFixture[str],
    name: str, text: str, words: str, code: int,
) -> None:  # fmt: skip
    (dags / name).write_text(text)
    assert main(["public.stock"], dags) == code
    assert words in capsys.readouterr().out
    assert [path.read_text() for path in dags.iterdir()] == [text]
    assert deployed == []


def test_where_dags_come_from_git_a_person_pushes_them(
    cluster: FakeCluster, dags: Path, deployed: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    settings(cluster, **{FROM_GIT: "[]"})
    assert main(["public.stock"], dags) == 0
    shown = capsys.readouterr().out
    assert "Commit and push, and Airflow shows them:\n  dags/stock_etl.py" in shown
    assert "stock_etl is in Airflow" in shown
    assert deployed == []


def test_an_error_of_its_file_is_shown_and_of_another_is_not(
    cluster: FakeCluster, dags: Path, airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow.errors.append({"filename": "stock_etl.py", "stack_trace": "no such module"})
    assert main(["public.stock"], dags) == 1
    shown = capsys.readouterr()
    assert "no such module" in shown.out
    assert "of another" not in shown.out
    assert "Airflow cannot import stock_etl.py" in shown.err


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            [{"event": "The source has no table public.none."}],
            "The source has no table public.none. Job etl-new-pipeline",
        ),
        ([BARE], "No table was added; why is above."),
    ],
)
def test_where_nothing_can_be_added_the_reason_is_shown(
    cluster: FakeCluster, dags: Path, capsys: pytest.CaptureFixture[str], log: list[Any], words: str
) -> None:
    cluster.set(failing=["etl-new-pipeline"], logs={"job/etl-new-pipeline": "\n".join(map(json.dumps, log))})
    assert main(["public.none"], dags) == 1
    assert words in capsys.readouterr().err
    assert "Job/etl-new-pipeline" not in cluster.objects


def test_where_it_cannot_be_deployed_the_files_stay_and_the_next_step_is_said(
    cluster: FakeCluster, dags: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.deploy.cli.main", lambda words: 1)
    assert main(["public.stock"], dags) == 1
    assert "Then run scripts/apply-all.sh." in capsys.readouterr().err
    assert (dags / "stock_etl.py").exists()
