"""`scripts/add-table.sh`: writes DAG files for tables of the source (`etl new-pipeline` in a pod) and deploys them.

The command runs in a pod with the settings of the steps: this machine needs no access to the source, and no password.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.cluster.access import reach
from ops.cluster.airflow_api import AirflowApi
from ops.cluster.console import Console, DeployError, new_parser
from ops.cluster.kubectl import NAMESPACE, Kubectl
from ops.cluster.names import AIRFLOW_SETTINGS
from ops.cluster.step_pod import step_job
from ops.deploy import cli
from ops.deploy.first_run import await_dag
from ops.deploy.manifests.overlays import ROOT
from ops.deploy.manifests.rollout import JobFailedError, run_once
from ops.deploy.options import add_timeout
from ops.deploy.up import NOT_ALL_READY

JOB = "etl-new-pipeline"
FROM_GIT = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
"""The setting by which Airflow takes DAGs from elsewhere than from its image."""
_ABOUT = """\
Writes a DAG file into dags/ for each table of the source that matches, deploys them as apply-all.sh does, and waits
until Airflow shows them. A file that is there is kept. Options of apply-all.sh may follow after `--`.
"""


@dataclass(frozen=True)
class Found:
    """The answer of `etl new-pipeline` for a table: `written` or `refused`; the reason, the file and its text."""

    table: str
    outcome: str
    file: str
    reason: str
    text: str


def main(arguments: Sequence[str] | None = None, folder: Path = ROOT / "dags") -> int:
    """The whole command; returns the exit code. `folder`: of the DAG files."""
    options = _parse(arguments)
    console = Console()
    return console.run(lambda: _run(console, Kubectl(), options, folder), stopped="Stopped. Run the same again.")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser("scripts/add-table.sh", _ABOUT)
    parser.add_argument("tables", metavar="TABLE", nargs="+", help="SCHEMA.TABLE, or with *: 'public.*'")
    parser.add_argument("--exclude", metavar="TABLE", action="append", default=[], help="leave these out")
    parser.add_argument("--key", metavar="COLUMN", action="append", default=[], help="a column of the key")
    parser.add_argument("--version", metavar="COLUMN", help="the column that grows with each change")
    parser.add_argument("--deletes", choices=("keep", "mark", "delete"), help="what becomes of deleted rows (delete)")
    parser.add_argument("--sink-schema", metavar="NAME", help="default: dbo for public, else the source's")
    parser.add_argument("--time-zone", metavar="ZONE", help="of the schedules")
    parser.add_argument("--owner", metavar="NAME", help="of the DAGs")
    parser.add_argument("--big", action="store_true", help="replace tables of more than 20 million rows, too")
    parser.add_argument("--dry-run", action="store_true", help="show the files; write and deploy nothing")
    add_timeout(parser, "15m")
    given = list(arguments or [])
    end = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:end])
    options.deploying = given[end + 1 :]
    return options


def _run(console: Console, kubectl: Kubectl, options: argparse.Namespace, folder: Path) -> None:
    reach(kubectl)
    found = [_kept(each, folder) for each in _ask(console, kubectl, options)]
    words = {
        "written": "would be written" if options.dry_run else "written",
        "skipped": "skipped",
        "refused": "refused",
    }
    for each in found:
        console.show(f"{words[each.outcome]:8} {each.table}  {each.reason}")
    counts = Counter(each.outcome for each in found)
    console.show(f"{', '.join(f'{counts[kind]} {shown}' for kind, shown in words.items())}.")
    new = [each for each in found if each.outcome == "written"]
    if options.dry_run:
        for each in new:
            console.show(f"\ndags/{each.file}:\n{each.text}")
        return
    for each in new:
        (folder / each.file).write_text(each.text)
    if counts["refused"] == len(found):
        raise DeployError("No table was added; why is above.")
    if new:
        _deploy(console, kubectl, options, [each.file for each in new])
        _await(console, kubectl, [each.file.removesuffix(".py") for each in new], options.timeout)


def _ask(console: Console, kubectl: Kubectl, options: argparse.Namespace) -> list[Found]:
    """Run `etl new-pipeline` in the cluster; returns its answer for each table."""
    arguments = ["etl", "new-pipeline", "--to=-"]
    for name in ("exclude", "key"):
        arguments += [f"--{name}={each}" for each in getattr(options, name)]
    for name in ("version", "deletes", "sink_schema", "time_zone", "owner"):
        value = getattr(options, name)
        arguments += [f"--{name.replace('_', '-')}={value}"] if value else []
    arguments += ["--big"] if options.big else []
    job = step_job(kubectl, JOB, "new-pipeline", [*arguments, "--", *options.tables], options.timeout)
    log: list[str] = []

    def read() -> None:
        log.extend(kubectl.run("--namespace", NAMESPACE, "logs", f"job/{JOB}").splitlines())

    try:
        run_once(console, kubectl, "new-pipeline", job, options.timeout, read)
        read()
    except JobFailedError as error:
        if answers := _answers(log):
            return answers
        raise DeployError(f"{_last_event(log)} {error}".strip()) from None
    finally:
        kubectl.delete([job], options.timeout)
    return _answers(log)


def _answers(log: list[str]) -> list[Found]:
    found = []
    for line in log:
        try:
            found.append(Found(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # a line of the log
    return found


def _last_event(log: list[str]) -> str:
    """The last sentence of a log."""
    try:
        return str(json.loads(log[-1])["event"])
    except (LookupError, ValueError, TypeError):
        return log[-1] if log else ""


def _kept(found: Found, folder: Path) -> Found:
    """The answer for a table; `skipped` if a DAG file reads it already, `refused` if a file of another has its name."""
    if found.outcome != "written":
        return found
    source = re.compile(rf"\bsource=(['\"]){re.escape(found.table)}\1")
    for path in sorted(folder.glob("*.py")):
        if source.search(path.read_text()):
            return Found(found.table, "skipped", path.name, f"dags/{path.name} reads it already.", "")
    if (folder / found.file).exists():
        reason = f"dags/{found.file} is of another table: write this one by hand, under another name."
        return Found(found.table, "refused", found.file, reason, "")
    return found


def _deploy(console: Console, kubectl: Kubectl, options: argparse.Namespace, files: list[str]) -> None:
    """Place the files as the deployment takes its DAGs: with the image, or by a commit."""
    settings = (kubectl.get("configmap", AIRFLOW_SETTINGS, "--namespace", NAMESPACE) or {}).get("data", {})
    if FROM_GIT in settings:
        console.say("This deployment takes its DAGs from elsewhere. Commit and push, and Airflow shows them:")
        console.show("\n".join(f"  dags/{file}" for file in files))
        return
    code = cli.main(options.deploying)
    if code not in (0, NOT_ALL_READY):
        raise DeployError("The files are in dags/, and not deployed; why is above. Then run scripts/apply-all.sh.")


def _await(console: Console, kubectl: Kubectl, dags: list[str], timeout: float) -> None:
    with AirflowApi(kubectl) as api:
        deadline = time.monotonic() + timeout
        for dag in dags:
            await_dag(console, api, dag, deadline)
            console.say(f"{dag} is in Airflow, and paused: switch it on there, and its first run takes all rows.")
