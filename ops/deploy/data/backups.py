"""The backups on their volume, and Jobs that use them.

Such a Job is a copy of the CronJob that makes the backups, with the same image, volume, labels and passwords.
"""

import copy
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.objects import new, secret_variable
from ops.deploy.manifests.rollout import JobFailedError, run_once

METADATA, SINK, COPY = "metadata-backup", "sink-backup", "backup-copy"
"""The CronJobs."""
LATEST = "latest"
_KINDS = {METADATA: "metadata", SINK: "sink"}
_NAME = re.compile(r"(?:metadata|sink)-(\d{8}T\d{6})Z\.(?:dump|bak)")


@dataclass(frozen=True)
class Backup:
    """A file of the volume."""

    name: str
    size: int

    @property
    def made(self) -> str:
        """The time of the backup as text."""
        found = _NAME.fullmatch(self.name)
        return f"{datetime.strptime(found[1], '%Y%m%dT%H%M%S'):%Y-%m-%d %H:%M:%S} UTC" if found else "unknown"


def read_backups(console: Console, kubectl: Kubectl, timeout: float) -> list[Backup]:
    """The backups on the volume, the newest last."""
    lines = run_job(console, kubectl, METADATA, "backup-list", ["list"], timeout).splitlines()
    found = [Backup(name, int(size)) for size, _, name in (line.partition(" ") for line in lines) if size.isdigit()]
    return sorted(found, key=lambda backup: backup.name)


def choose(backups: Iterable[Backup], cron_job: str, asked: str) -> Backup:
    """The backup of that name, or the latest. Raises DeployError."""
    kind = _KINDS[cron_job]
    found = [backup for backup in backups if backup.name.startswith(f"{kind}-")]
    chosen = [backup for backup in found if asked in (LATEST, backup.name)]
    if not chosen:
        there = ", ".join(backup.name for backup in found) or "none"
        raise DeployError(f"There is no backup {asked} of the {kind} database on the volume; there are: {there}.")
    return chosen[-1]


def run_job(
    console: Console,
    kubectl: Kubectl,
    cron_job: str,
    name: str,
    arguments: Sequence[str],
    timeout: float,
    secrets: "dict[str, tuple[str, str]] | None" = None,
) -> str:
    """Run a CronJob's pod once, with other arguments; returns its log. Raises DeployError.

    `secrets` are additional variables from keys of Secrets.
    """
    job = _job_of(kubectl, cron_job, name, timeout)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["args"] = list(arguments)
    given = [one for one in container.get("env", []) if one["name"] not in (secrets or {})]
    container["env"] = given + [secret_variable(variable, secret) for variable, secret in (secrets or {}).items()]
    try:
        run_once(console, kubectl, "restore", job, timeout, lambda: console.show(_log(kubectl, name)))
    except JobFailedError as error:
        raise DeployError(f"{error} What it said is above, if its pod was still there.") from None
    return _log(kubectl, name)


def _job_of(kubectl: Kubectl, cron_job: str, name: str, timeout: float) -> Object:
    found = kubectl.get("cronjob", cron_job, "--namespace", NAMESPACE)
    if found is None:
        raise DeployError(
            f"There is no CronJob {cron_job}: run scripts/apply-all.sh first. A sink outside the cluster is restored"
            " where it is backed up, and copies need the component backup-copy."
        )
    template = copy.deepcopy(found["spec"]["jobTemplate"])
    labels = {"labels": template.get("metadata", {}).get("labels", {})}
    # Not owned by the CronJob, which would count it as a backup. Its deadline is longer, as a restore takes longer.
    specification = {**template["spec"], "backoffLimit": 0, "activeDeadlineSeconds": math.ceil(timeout)}
    return new("Job", name, metadata=labels, spec=specification)


def _log(kubectl: Kubectl, name: str) -> str:
    return kubectl.run("--namespace", NAMESPACE, "logs", f"job/{name}").rstrip()
