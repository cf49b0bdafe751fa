"""GitHub's workflows have the least permissions, and run nothing that a third party can replace."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WRITES = {("release.yml", "release"): {"contents": "write"}}
"""The jobs that may do more than read."""


def read(file: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(file.read_text())
    return content


JOBS = [pytest.param(file, name, id=f"{file.stem}-{name}") for file in FILES for name in read(file)["jobs"]]


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_zizmor_finds_nothing() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    ran = subprocess.run(
        [zizmor, "--offline", "--no-config", *FILES], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_workflow_may_do_nothing_that_a_job_does_not_ask_for(file: Path) -> None:
    assert read(file)["permissions"] == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_step_fails_where_any_command_of_a_pipe_does(file: Path) -> None:
    """GitHub's documentation: `bash` by name runs with -o pipefail, and without a name it does not."""
    assert read(file)["defaults"] == {"run": {"shell": "bash"}}


@pytest.mark.parametrize(("file", "name"), JOBS)
def test_a_job_may_read_the_code_and_hardly_one_more(file: Path, name: str) -> None:
    assert read(file)["jobs"][name]["permissions"] == WRITES.get((file.name, name), {"contents": "read"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_action_is_named_by_its_commit_and_the_same_one_everywhere(file: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", file.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment), f"{action} does not say its version"
    everywhere = {one for other in FILES for one in re.findall(r"uses: (\S+)", other.read_text())}
    assert len({action.partition("@")[0] for action in everywhere}) == len(everywhere)


@pytest.mark.parametrize(("file", "name"), JOBS)
def test_the_token_is_not_left_in_the_checkout(file: Path, name: str) -> None:
    for step in read(file)["jobs"][name]["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize(("file", "name"), JOBS)
def test_nothing_of_a_pull_request_becomes_root(file: Path, name: str) -> None:
    workflow = read(file)
    job = workflow["jobs"][name]
    # YAML takes the key `on` for a truth value.
    if "pull_request" not in workflow[True] or job.get("if") == "github.event_name == 'push'":
        return
    for command in re.findall(r"sudo (\S+)", commands(job)):
        assert command == "apt-get"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_secret_is_given_to_a_release_alone(file: Path) -> None:
    used = set(re.findall(r"secrets\.(\w+)", file.read_text()))
    assert used == ({"RELEASE_SIGNING_KEY"} if file.name == "release.yml" else set())
    assert "pull_request_target" not in file.read_text()


def test_the_job_that_holds_the_key_and_may_write_runs_no_code_of_the_project_or_its_packages() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    (name,) = (name for name, job in jobs.items() if "write" in job["permissions"].values())
    assert jobs[name]["environment"] == "release"
    assert not any(step.get("uses", "").startswith("actions/checkout@") for step in jobs[name]["steps"])
    assert not re.search(r"\b(docker|make|python3?|pip|uv|bash|sh)\b", commands(jobs[name]))
    for other in set(jobs) - {name}:
        assert "secrets." not in str(jobs[other])


def test_uv_is_installed_by_its_hashes_everywhere() -> None:
    pins = (ROOT / "uv.txt").read_text()
    assert re.search(r"^uv==\d+\.\d+\.\d+ \\$", pins, re.MULTILINE)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", pins)) > 10
    for name in ("Makefile", "etl_image/Dockerfile", "airflow_image/Dockerfile"):
        (install,) = re.findall(r"pip install [^\n]*", (ROOT / name).read_text())
        assert "--require-hashes" in install
        assert "uv.txt" in install


def test_renovate_finds_what_is_pinned_in_a_way_of_our_own() -> None:
    settings = json.loads((ROOT / "renovate.json").read_text())
    (pattern,) = settings["pip_requirements"]["managerFilePatterns"]
    assert re.search(pattern.strip("/"), "uv.txt")
    (manager,) = settings["customManagers"]
    (file,) = (
        file for file in FILES if re.search(manager["managerFilePatterns"][0][1:-1], f"{file.relative_to(ROOT)}")
    )
    (wanted,) = manager["matchStrings"]
    found = re.search(wanted.replace("(?<", "(?P<"), file.read_text())
    assert found
    assert found["depName"] == "github.com/google/osv-scanner/v2"


@pytest.mark.parametrize("tag", ["2022-CU27-ubuntu-22.04", "2022-CU26-GDR1-ubuntu-22.04"])
def test_renovate_reads_the_tags_of_sql_server_also_those_of_security_updates(tag: str) -> None:
    rules = json.loads((ROOT / "renovate.json").read_text())["packageRules"]
    (versioning,) = (rule["versioning"] for rule in rules if "versioning" in rule)
    assert re.fullmatch(versioning.removeprefix("regex:").replace("(?<", "(?P<"), tag)
