"""`scripts/restore.sh`: restores the metadata database, the sink, or both from backups.

They may be restored to different times: the watermarks of the pipelines are in the sink, with its rows; Airflow's
database only has the history of runs (docs/operations.md).
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from ops.cluster.access import reach
from ops.cluster.airflow_api import ADMIN_KEY, ADMIN_SECRET, ADMIN_USER
from ops.cluster.console import Console, DeployError, new_parser, table
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.names import AIRFLOW_SERVERS, PREPARE
from ops.cluster.objects import new
from ops.cluster.secret_keys import METADATA_ADMIN, SINK_ADMIN, SINK_BACKUP, SINK_EXPORTER, SINK_LOADER
from ops.deploy.data.backups import COPY, LATEST, METADATA, SINK, Backup, choose, read_backups, run_job
from ops.deploy.manifests.rollout import wait_until_ready
from ops.deploy.options import add_timeout
from ops.deploy.secrets.secrets import temporary_secret

CLEAN = "airflow-clean"
"""A CronJob with the pod of the Job airflow-migrate, which is deleted an hour after its end."""
_SINK_SECRETS = {
    "SINK_ADMIN_PASSWORD": SINK_ADMIN,
    "SINK_PASSWORD": SINK_LOADER,
    "SINK_EXPORTER_PASSWORD": SINK_EXPORTER,
    "SINK_BACKUP_PASSWORD": SINK_BACKUP,
}
"""The password of the restoring login, and those of the logins that it enables again."""
POLL_SECONDS = 1.0
IDENTITY = ("backup-identity", "BACKUP_IDENTITY")
"""The Secret with the private key of encrypted copies, and its key in it."""
MIGRATE = f"""\
airflow db migrate
python -m etl_airflow.grants
printf '%s\\n%s\\n' "${ADMIN_KEY}" "${ADMIN_KEY}" | airflow users reset-password --username {ADMIN_USER} \\
  || echo 'There is no user {ADMIN_USER}.'
"""
"""Run after a restore of the metadata database. The password is read from standard input, twice, not an argument."""
_ABOUT = """\
Replaces Airflow's metadata database, the sink, or both by a backup; without either option, lists the backups.
Airflow is stopped meanwhile, and running tasks are ended. Safe to repeat at any time.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command; returns the exit code."""
    options = _parse(arguments)
    console = Console()
    return console.run(
        lambda: _run(console, Kubectl(), options), stopped="Stopped. Airflow may be stopped, too: run the same again."
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser("scripts/restore.sh", _ABOUT)
    parser.add_argument("--metadata", metavar="FILE", help=f"restore Airflow's database: a backup's name, or {LATEST}")
    parser.add_argument("--sink", metavar="FILE", help=f"restore the sink: a backup's name, or {LATEST}")
    fetch = "first bring the newest copies back from where backup-copy took them"
    parser.add_argument("--fetch", action="store_true", help=fetch)
    identity = "with --fetch: age's private key, where the copies are encrypted"
    parser.add_argument("--identity", metavar="FILE", help=identity)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_timeout(parser, "1h")
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
    """Fetch copies. The private key is in the cluster only meanwhile."""
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
    if not yes:
        console.confirm("restore", "Nothing was changed.")


def _servers(kubectl: Kubectl) -> list[Object]:
    """Airflow's Deployments, with at least one replica each, since an earlier attempt may have stopped them."""
    found = kubectl.items("deployments", "--namespace", NAMESPACE)
    servers = [item for item in found if item["metadata"]["name"] in AIRFLOW_SERVERS]
    if not servers:
        raise DeployError("Airflow is not deployed: run scripts/apply-all.sh first.")
    for item in servers:
        item["spec"]["replicas"] = item["spec"].get("replicas", 1) or 1
    return servers


def _stop(console: Console, kubectl: Kubectl, servers: list[Object], timeout: float) -> None:
    """Stop Airflow and running tasks, so that neither database is written to."""
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
    # After the scheduler, which would restart them.
    kubectl.run("delete", "pods", "--namespace", NAMESPACE, "--selector=dag_id", wait, seconds=0)


def _restore(console: Console, kubectl: Kubectl, chosen: dict[str, Backup], timeout: float) -> dict[str, str]:
    """Restore the chosen backups; returns the watermarks of a restored sink."""
    watermarks: dict[str, str] = {}
    if SINK in chosen:
        console.say(f"Restoring the sink from {chosen[SINK].name}.")
        command = ["etl", "restore-sink", chosen[SINK].name]
        log = run_job(console, kubectl, SINK, "sink-restore", command, timeout, _SINK_SECRETS)
        watermarks = _watermarks(log)
        # A completed Job would not run again at the next apply-all.sh, and the backup may lack tables that it made.
        kubectl.delete([new("Job", PREPARE)], timeout)
    if METADATA in chosen:
        console.say(f"Restoring Airflow's metadata database from {chosen[METADATA].name}.")
        secrets = {METADATA_ADMIN[1]: METADATA_ADMIN}
        run_job(console, kubectl, METADATA, "metadata-restore", ["restore", chosen[METADATA].name], timeout, secrets)
        # The backup may have an earlier schema and an earlier password of the administrator.
        secrets = {ADMIN_KEY: (ADMIN_SECRET, ADMIN_KEY)}
        run_job(console, kubectl, CLEAN, "metadata-migrate", ["bash", "-euc", MIGRATE], timeout, secrets)
    return watermarks


def _watermarks(log: str) -> dict[str, str]:
    """The watermarks in the last line of `etl restore-sink`."""
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
