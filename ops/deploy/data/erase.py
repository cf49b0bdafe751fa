"""`scripts/erase.sh`: removes one row from sink and staging (`etl erase` in the cluster).

The row's key is asked for, or read from standard input: every user of the machine could see it as an argument, and
everyone who may read pods as an argument of a pod. It goes into a Secret that is deleted when the Job has ended.
"""

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ops.cluster.access import reach
from ops.cluster.console import Console, DeployError, new_parser
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.objects import secret_variable
from ops.cluster.secret_keys import SINK_ADMIN, SINK_ADMIN_CLIENT
from ops.cluster.step_pod import step_job
from ops.deploy.manifests.rollout import JobFailedError, run_once
from ops.deploy.options import add_timeout
from ops.deploy.secrets.secrets import temporary_secret

JOB = SECRET = "etl-erase"  # noqa: S105 - the name of a Secret
READ_PIPELINE = """\
folder=$(mktemp --directory)
trap 'rm -r "$folder"' EXIT
python -m etl_airflow.export_pipelines "$folder" >&2
cat "$folder/$1.json"
"""
"""Run in the scheduler, which has the DAG files: prints the pipeline of a DAG."""
_ABOUT = """\
Removes a row from the sink and from staging, and says what else has it until when; docs/personal-data.md says what to
do before and after. Asks for the key of the row, or reads it from standard input. Safe to repeat at any time.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command; returns the exit code."""
    options = _parse(arguments)
    console = Console()
    return console.run(lambda: _run(console, Kubectl(), options), stopped="Stopped. Run the same again to be sure.")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser("scripts/erase.sh", _ABOUT)
    parser.add_argument("--dag", metavar="NAME", required=True, help="the DAG of the pipeline, such as orders_etl")
    pipeline = "its pipeline as JSON, where DAGs come from git and not with the image"
    parser.add_argument("--pipeline", metavar="FILE", help=pipeline)
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and say what would be removed")
    at_source = "do not ask the source whether it still has the row, from where a later run would bring it back"
    parser.add_argument("--even-if-at-source", action="store_true", help=at_source)
    add_timeout(parser, "1h")
    return parser.parse_args(arguments)


def _run(console: Console, kubectl: Kubectl, options: argparse.Namespace) -> None:
    reach(kubectl)
    _refuse_while_it_runs(kubectl, options.dag)
    pipeline = _pipeline(kubectl, options)
    key = _ask(pipeline["key"])
    arguments = ["etl", "erase", *(["--dry-run"] if options.dry_run else [])]
    arguments += ["--even-if-at-source"] if options.even_if_at_source else []
    job = _job(kubectl, arguments, options.timeout)
    with temporary_secret(kubectl, SECRET, {"ETL_PIPELINE": json.dumps(pipeline), "ERASE_KEY": json.dumps(key)}):
        try:
            run_once(console, kubectl, "erase", job, options.timeout, lambda: _show(console, kubectl))
        except JobFailedError as error:
            raise DeployError(f"{error} Why is above, and nothing was removed unless it says so.") from None
        _show(console, kubectl)
        kubectl.delete([job], options.timeout)
    if not options.dry_run:
        _refuse_while_it_runs(kubectl, options.dag)  # one that began meanwhile may have read staging before


def _refuse_while_it_runs(kubectl: Kubectl, dag: str) -> None:
    """A run that has read the row would load it again."""
    pods = kubectl.items("pods", "--namespace", NAMESPACE, f"--selector=dag_id={dag}")
    running = [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
    if running:
        raise DeployError(
            f"A run of {dag} is under way (pod {running[0]['metadata']['name']}), and may bring the row again: pause"
            " the DAG in Airflow, wait until its run has ended, and run this again."
        )


def _pipeline(kubectl: Kubectl, options: argparse.Namespace) -> Object:
    if options.pipeline:
        try:
            text = Path(options.pipeline).read_text()
        except OSError as error:
            raise DeployError(f"{options.pipeline} cannot be read: {error.strerror}.") from None
    else:
        command = ("--", "bash", "-euc", READ_PIPELINE, "bash", options.dag)
        try:
            text = kubectl.run("--namespace", NAMESPACE, "exec", "deploy/airflow-scheduler", *command)
        except DeployError as error:
            raise DeployError(
                f"The pipeline of {options.dag} cannot be read from the scheduler; where DAGs come from git, name its"
                f" JSON with --pipeline FILE. {error}"
            ) from None
    try:
        found: Object = json.loads(text)
        found["key"][0].casefold()
    except (ValueError, LookupError, TypeError, AttributeError):
        raise DeployError(f"What was read for {options.dag} is not the JSON of a pipeline.") from None
    return found


def _ask(columns: list[str]) -> list[str]:
    """The value of each key column: asked for at a terminal, else read from standard input, a line each."""
    if sys.stdin.isatty():
        return [getpass.getpass(f"{name} (not shown): ") for name in columns]
    lines = [line.rstrip("\n") for line in sys.stdin]
    if len(lines) != len(columns):
        raise DeployError(f"{len(lines)} lines came, and the key is {', '.join(columns)}: write a line for each.")
    return lines


def _job(kubectl: Kubectl, arguments: list[str], timeout: float) -> Object:
    """A Job with the pod of a step, and the password, or client secret, of the sink's administrator."""
    job = step_job(kubectl, JOB, "erase", arguments, timeout)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["env"] += [
        secret_variable("SINK_ADMIN_PASSWORD", SINK_ADMIN),
        secret_variable("SINK_ADMIN_CLIENT_SECRET", SINK_ADMIN_CLIENT, optional=True),
    ]
    container["envFrom"].append({"secretRef": {"name": SECRET}})
    return job


def _show(console: Console, kubectl: Kubectl) -> None:
    """Print the log of the Job: the event of each line, with its counts."""
    for line in kubectl.run("--namespace", NAMESPACE, "logs", f"job/{JOB}").splitlines():
        try:
            event = json.loads(line)
            counts = [f"{name} {event[name]}" for name in ("row", "rows", "partitions") if name in event]
            console.show(" ".join([event["event"], *([f"({', '.join(counts)})"] if counts else [])]))
        except (ValueError, KeyError, TypeError):
            console.show(line)
