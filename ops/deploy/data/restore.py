"""`scripts/restore.sh`: the metadata database, the sink, or both, as they were when a backup was made.

One may be restored to another moment than the other. Where the pipelines stand is in the sink, with its rows; Airflow's
database only tells of runs (docs/operations.md).
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ops.cluster.access import reach
from ops.cluster.airflow_api import ADMIN_KEY, ADMIN_SECRET, ADMIN_USER
from ops.cluster.console import Console, DeployError, table
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.deploy.data.backups import COPY, LATEST, METADATA, SINK, Backup, choose, read_backups, run_job
from ops.deploy.manifests.rollout import wait_until_ready
from ops.deploy.options import duration
from ops.deploy.secrets.secrets import (
    METADATA_ADMIN,
    SINK_ADMIN,
    SINK_BACKUP,
    SINK_EXPORTER,
    SINK_LOADER,
    temporary_secret,
)

SERVERS = ("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "airflow-api-server")
CLEAN = "airflow-clean"
"""The CronJob that is like the Job airflow-migrate, which is gone an hour after it has ended."""
PREPARE = "mssql-init-job"
"""The Job that makes the tables of the pipelines."""
_SINK_SECRETS = {
    "SINK_ADMIN_PASSWORD": SINK_ADMIN,
    "SINK_PASSWORD": SINK_LOADER,
    "SINK_EXPORTER_PASSWORD": SINK_EXPORTER,
    "SINK_BACKUP_PASSWORD": SINK_BACKUP,
}
"""Who restores the sink, and the logins that are let in again."""
POLL_SECONDS = 1.0
IDENTITY = ("backup-identity", "BACKUP_IDENTITY")
"""The Secret with the private key of encrypted copies, and its key in it."""
_WORD = "restore"
MIGRATE = f"""\
airflow db migrate
python -m etl_airflow.grants
printf '%s\\n%s\\n' "${ADMIN_KEY}" "${ADMIN_KEY}" | airflow users reset-password --username {ADMIN_USER} \\
  || echo 'There is no user {ADMIN_USER}.'
"""
"""After the metadata database; the password is read twice, for an argument could be seen by everybody on the node."""
_ABOUT = """\
Puts a backup in the place of Airflow's metadata database, of the sink, or of both; without either, says what backups
there are. Airflow is stopped meanwhile, and tasks that run are ended. Safe to repeat at any time.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command; returns the exit code."""
    options = _parse(arguments)
    console = Console()
    return console.run(
        lambda: _run(console, Kubectl(), options), stopped="Stopped. Airflow may be stopped, too: run the same again."
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/restore.sh", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metadata", metavar="FILE", help=f"restore Airflow's database: a backup's name, or {LATEST}")
    parser.add_argument("--sink", metavar="FILE", help=f"restore the sink: a backup's name, or {LATEST}")
    parser.add_argument(
        "--fetch", action="store_true", help="first bring the newest copies back from where backup-copy took them"
    )
    parser.add_argument(
        "--identity", metavar="FILE", help="with --fetch: age's private key, where the copies are encrypted"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--timeout", metavar="TIME", type=duration, default="1h", help="for each wait (1h)")
    return parser.parse_args(arguments)


def _run(console: Console, kubectl: Kubectl, options: argparse.Namespace) -> None:
    reach(kubectl)
    if options.identity and not options.fetch:
        raise DeployError("--identity is for copies that are fetched: add --fetch.")
    if options.fetch:
        _fetch(console, kubectl, options)
    backups = read_backups(console, kubectl, options.timeout)
    asked = {cron_job: name for cron_job, name in ((METADATA, options.metadata), (SINK, options.sink)) if name}
    if not asked:
        _show(console, backups)
        return
    chosen = {cron_job: choose(backups, cron_job, name) for cron_job, name in asked.items()}
    _confirm(console, chosen, options.yes)
    servers = _servers(kubectl)
    try:
        _stop(console, kubectl, servers, options.timeout)
        watermarks = _restore(console, kubectl, chosen, options.timeout)
    except DeployError as error:
        raise DeployError(f"{error}\nAirflow is stopped. Mend this and run the same again.") from None
    _start(console, kubectl, servers, options.timeout)
    _tell(console, chosen, watermarks)


def _fetch(console: Console, kubectl: Kubectl, options: argparse.Namespace) -> None:
    """Bring copies back. The private key is in the cluster while that lasts, and not before or afterwards."""
    arguments = ["etl", "copy-backups", "--back"]
    if not options.identity:
        run_job(console, kubectl, COPY, "backup-fetch", arguments, options.timeout)
        return
    try:
        identity = Path(options.identity).read_text()
    except (OSError, ValueError) as error:
        raise DeployError(f"The private key {options.identity} cannot be read: {error}.") from None
    name, key = IDENTITY
    with temporary_secret(kubectl, name, {key: identity}):
        run_job(console, kubectl, COPY, "backup-fetch", arguments, options.timeout, {key: IDENTITY})


def _show(console: Console, backups: list[Backup]) -> None:
    if not backups:
        console.show("There is no backup on the volume.")
        return
    rows = [(backup.made, f"{backup.size / 1000**2:.1f} MB", backup.name) for backup in backups]
    console.show(table([("MADE", "SIZE", "NAME"), *rows]))


def _confirm(console: Console, chosen: dict[str, Backup], yes: bool) -> None:
    console.show("What is in these databases now is lost:")
    names = {METADATA: "Airflow's metadata database", SINK: "the sink"}
    for cron_job, backup in chosen.items():
        console.show(f"  {names[cron_job]} becomes that of {backup.made} ({backup.name})")
    if yes:
        return
    if not sys.stdin.isatty():
        raise DeployError("Nobody is here to confirm: give --yes if it may be done.")
    if input(f"Type {_WORD} to go on: ").strip() != _WORD:
        raise DeployError("Nothing was changed.")


def _servers(kubectl: Kubectl) -> list[Object]:
    """Airflow's Deployments. One that an earlier attempt has stopped is to have one pod again, at least."""
    found = kubectl.items("deployments", "--namespace", NAMESPACE)
    servers = [item for item in found if item["metadata"]["name"] in SERVERS]
    if not servers:
        raise DeployError("Airflow is not deployed: run scripts/apply-all.sh first.")
    for item in servers:
        item["spec"]["replicas"] = item["spec"].get("replicas", 1) or 1
    return servers


def _stop(console: Console, kubectl: Kubectl, servers: list[Object], timeout: float) -> None:
    """Stop Airflow, and end the tasks that run: nobody writes to either database any more."""
    names = [item["metadata"]["name"] for item in servers]
    console.say(f"Stopping {', '.join(names)}, and the tasks that run.")
    for name in names:
        _scale(kubectl, name, 0)
    wait = f"--timeout={timeout:.0f}s"
    deadline = time.monotonic() + timeout
    selector = f"--selector=app.kubernetes.io/name in ({','.join(names)})"
    while kubectl.items("pods", "--namespace", NAMESPACE, selector):
        if time.monotonic() > deadline:
            raise DeployError(f"Pods of {', '.join(names)} are still there after {timeout:.0f} s.")
        time.sleep(POLL_SECONDS)
    # After the scheduler, which would start them again.
    kubectl.run("delete", "pods", "--namespace", NAMESPACE, "--selector=dag_id", wait, seconds=0)


def _restore(console: Console, kubectl: Kubectl, chosen: dict[str, Backup], timeout: float) -> dict[str, str]:
    """Restore what was chosen; returns the watermarks of the sink, where that is among it."""
    watermarks: dict[str, str] = {}
    if SINK in chosen:
        console.say(f"Restoring the sink from {chosen[SINK].name}.")
        command = ["etl", "restore-sink", chosen[SINK].name]
        log = run_job(console, kubectl, SINK, "sink-restore", command, timeout, _SINK_SECRETS)
        watermarks = _watermarks(log)
        # It has ended, so the next apply-all.sh would not run it again, and it made tables that the backup may lack.
        metadata = {"name": PREPARE, "namespace": NAMESPACE}
        kubectl.delete([{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}], timeout)
    if METADATA in chosen:
        console.say(f"Restoring Airflow's metadata database from {chosen[METADATA].name}.")
        secrets = {METADATA_ADMIN[1]: METADATA_ADMIN}
        run_job(console, kubectl, METADATA, "metadata-restore", ["restore", chosen[METADATA].name], timeout, secrets)
        # The backup may be of an earlier version, and from before the administrator's password was changed.
        secrets = {ADMIN_KEY: (ADMIN_SECRET, ADMIN_KEY)}
        run_job(console, kubectl, CLEAN, "metadata-migrate", ["bash", "-euc", MIGRATE], timeout, secrets)
    return watermarks


def _watermarks(log: str) -> dict[str, str]:
    """What `etl restore-sink` says in its last line."""
    try:
        return dict(json.loads(log.splitlines()[-1])["watermarks"])
    except (IndexError, KeyError, TypeError, ValueError):
        return {}


def _start(console: Console, kubectl: Kubectl, servers: list[Object], timeout: float) -> None:
    console.say("Starting Airflow again.")
    for item in servers:
        _scale(kubectl, item["metadata"]["name"], item["spec"]["replicas"])
    wait_until_ready(console, kubectl, servers, timeout)


def _tell(console: Console, chosen: dict[str, Backup], watermarks: dict[str, str]) -> None:
    console.show()
    if METADATA in chosen:
        console.show(f"Airflow knows the runs until {chosen[METADATA].made}.")
    if SINK in chosen:
        console.show(f"The sink is as it was {chosen[SINK].made}. The next run of a pipeline reads on from here:")
        console.show(table([("PIPELINE", "WATERMARK"), *sorted(watermarks.items())]))
        console.show("A DAG file that was added after that backup has no table there: scripts/apply-all.sh makes it,")
        console.show("or, where DAGs come from git, its next load.")


def _scale(kubectl: Kubectl, name: str, replicas: int) -> None:
    kubectl.run("--namespace", NAMESPACE, "scale", f"deployment/{name}", f"--replicas={replicas}")
