"""The parts of ops/deploy by themselves: passwords, builders, the machine, what counts as ready or not well."""

import base64
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ops.cluster.console import Console, DeployError, table
from ops.cluster.pod_problems import pod_problems
from ops.deploy.images.builders import Build, Buildah, Builder, Docker, Podman, choose_builder
from ops.deploy.images.images import own_images
from ops.deploy.machine import machine_problems
from ops.deploy.manifests.rendering import images_in
from ops.deploy.manifests.rollout import JobFailedError, progress_of
from ops.deploy.options import parse
from ops.deploy.secrets.secrets import fernet_key, password, signing_key

ROOT = Path(__file__).resolve().parents[2]


def test_passwords_meet_the_policy_of_sql_server_and_fit_into_a_url() -> None:
    chosen = {password() for _ in range(200)}
    assert len(chosen) == 200
    for one in chosen:
        assert len(one) == 32
        assert set(one) <= set(string.ascii_letters + string.digits + "-_.")
        assert one[0] in string.ascii_letters
        assert all(set(one) & set(kind) for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits))


def test_keys_are_as_long_as_airflow_wants_them() -> None:
    assert len(base64.urlsafe_b64decode(fernet_key())) == 32
    assert len(signing_key()) >= 64


def test_only_images_that_no_registry_has_are_built() -> None:
    images = ["localhost/etl:0.1.0", "localhost/etl-airflow:1", "localhost/e2e-standin:1", "example.com/etl:0.1.0"]
    assert own_images(images) == {
        "localhost/etl:0.1.0": "etl_image/Dockerfile",
        "localhost/etl-airflow:1": "airflow_image/Dockerfile",
    }


def test_images_are_found_also_in_text_and_placeholders_are_none() -> None:
    rendered = """
      - image: localhost/etl-airflow:0.1.0
        image: 'registry.example.com:5000/pgbouncer@sha256:ab'
  ETL_IMAGE: localhost/etl:0.1.0
          image: put in by the executor
          image: placeholder
"""
    assert images_in(rendered) == [
        "localhost/etl-airflow:0.1.0",
        "localhost/etl:0.1.0",
        "registry.example.com:5000/pgbouncer@sha256:ab",
    ]


def stub(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("docker", "chosen"),
    [
        ("case $1 in version) echo 28.2.2/28.2.2;; buildx) exit 0;; esac", "docker"),
        ("case $1 in version) echo 28.2.2/28.2.2;; *) exit 1;; esac", "buildah"),
        ("case $1 in version) echo 20.10.24+dfsg1/20.10.24;; *) exit 1;; esac", "docker"),
        ("exit 1", "buildah"),
    ],
    ids=["with buildx", "new without buildx", "old without buildx", "without a daemon"],
)
def test_the_first_builder_that_works_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: str, chosen: str
) -> None:
    stub(tmp_path, "docker", docker)
    stub(tmp_path, "buildah", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{bash_alone(tmp_path)}")
    assert choose_builder("auto").name == chosen


def bash_alone(folder: Path) -> Path:
    """A folder with bash and nothing that builds images."""
    alone = folder / "bash"
    alone.mkdir()
    (alone / "bash").symlink_to("/bin/bash")
    return alone


def test_without_a_builder_it_is_told_what_each_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeployError, match="docker is not installed; podman is not installed; buildah is"):
        choose_builder("auto")


@pytest.mark.parametrize("builder", [Docker(), Podman(), Buildah()], ids=lambda builder: builder.name)
def test_a_build_gets_its_ca_as_a_secret_and_the_proxy_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: Builder
) -> None:
    stub(
        tmp_path,
        builder.name,
        f'printf "%s\\n" "$*" > {tmp_path}/words; for word; do case $word in'
        " --iidfile=*) echo sha256:1 > ${word#--iidfile=};; esac; done",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@proxy:3128")
    build = Build("localhost/etl:1", tmp_path / "Dockerfile", tmp_path, ca_file=tmp_path / "ca.crt", pull=False)
    assert builder.build(Console(), build) == "sha256:1"
    words = (tmp_path / "words").read_text()
    assert words.startswith("build ")
    for expected in (f"--secret=id=ca,src={tmp_path}/ca.crt", "--network=host", "--pull=", "--build-arg=HTTPS_PROXY "):
        assert expected in words
    assert "hidden" not in words


def test_a_build_that_fails_shows_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(tmp_path, "buildah", "echo no such base image; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(DeployError, match="exit code 3"):
        Buildah().build(Console(), Build("localhost/etl:1", tmp_path / "Dockerfile", tmp_path))
    assert "no such base image" in capsys.readouterr().out


def test_a_machine_that_is_too_small_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.deploy.machine._text", lambda path: "MemTotal: 1953125 kB" if "mem" in path else "")
    told = " ".join(machine_problems())
    for words in ("has 2.0 GB of memory", "no cgroup memory controller"):
        assert words in told


def workload(kind: str, generation: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": "it", "generation": generation},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1, **status},
    }


@pytest.mark.parametrize(
    ("item", "progress"),
    [
        (
            workload("Deployment", generation=2, updatedReplicas=2, availableReplicas=2),
            "not seen by its controller yet",
        ),
        (workload("Deployment", updatedReplicas=1, availableReplicas=2), "1 of 2 updated"),
        (workload("Deployment", updatedReplicas=2, availableReplicas=1), "1 of 2 ready"),
        (workload("Deployment", updatedReplicas=2, availableReplicas=2, replicas=3), "1 old pods still there"),
        (workload("Deployment", updatedReplicas=2, availableReplicas=2, replicas=2), None),
        (workload("StatefulSet", currentRevision="a", updateRevision="b", readyReplicas=2), "0 of 2 updated"),
        (workload("StatefulSet", currentRevision="b", updateRevision="b", readyReplicas=1), "1 of 2 ready"),
        (workload("StatefulSet", currentRevision="b", updateRevision="b", readyReplicas=2), None),
        (workload("DaemonSet", desiredNumberScheduled=3, updatedNumberScheduled=3, numberAvailable=2), "2 of 3 ready"),
        (workload("Job"), "not complete"),
        (workload("Job", conditions=[{"type": "Complete", "status": "True"}]), None),
    ],
)
def test_a_workload_is_ready_when_all_its_pods_are_new_and_ready(item: dict[str, Any], progress: str | None) -> None:
    assert progress_of(item) == progress


def test_a_failed_job_is_never_ready() -> None:
    with pytest.raises(JobFailedError, match="Job it failed: too often"):
        progress_of(workload("Job", conditions=[{"type": "Failed", "status": "True", "message": "too often"}]))


def pod(phase: str = "Running", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "it"}, "status": {"phase": phase, **status}}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (
            pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "no node fits"}]),
            "no node fits",
        ),
        (
            pod(
                "Pending",
                containerStatuses=[
                    {"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
                ],
            ),
            "c ErrImagePull: the registry has no such image: correct its name or tag (not found)",
        ),
        (
            pod(containerStatuses=[{"name": "c", "ready": False, "state": {"running": {}}}]),
            "c runs but is not ready",
        ),
        (
            pod(
                "Failed", containerStatuses=[{"name": "c", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]
            ),
            "c ended: Error, exit code 3",
        ),
        (pod("Failed", reason="Evicted", message="disk is full"), "Evicted: disk is full"),
        (pod(containerStatuses=[{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]), None),
        (pod(containerStatuses=[{"name": "c", "ready": True, "state": {"running": {}}}]), None),
        (pod("Succeeded", containerStatuses=[{"name": "c", "state": {"terminated": {"exitCode": 0}}}]), None),
    ],
)
def test_a_pod_that_is_not_well_has_a_reason(item: dict[str, Any], reason: str | None) -> None:
    assert [why for _, why in pod_problems([item])] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source-address=db.example.com"], "no IP address"),
        (["--source-address=127.0.0.1"], "would lead a pod to itself"),
        (["--timeout=soon"], "is not a time such as"),
        (["--data-folder=/"], "a folder of its own"),
        (["--ca-file=/absent"], "is not a file"),
        (["--delete-data"], "belongs to `down`"),
        (["import"], "needs --from-bundle"),
        (["--platform=linux/arm64"], "belongs to --bundle"),
        (["--bundle=all.zip"], "must end in .tar.gz"),
        (["--bundle=all.tar", "--from-bundle=all.tar"], "goes with no --from-bundle"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert words in capsys.readouterr().err


def test_an_empty_import_command_imports_nothing() -> None:
    assert parse(["--import-command="]).import_command == ()
    assert parse([]).import_command == ("k3s", "ctr", "images", "import")


def test_a_table_is_aligned() -> None:
    assert table([("A", "LONG"), ("longer", 1)]) == "A       LONG\nlonger  1"


def test_the_script_helps_from_any_folder(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "apply-all.sh"
    helped = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--wait-for-first-run" in helped.stdout
