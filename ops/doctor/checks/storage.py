"""Claims without a volume, and disks that are nearly full."""

from collections.abc import Iterator

from ops.cluster.kubectl import NAMESPACE
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Disk, Snapshot, subject, subject_of

LEAST_FREE = 0.1
"""The threshold of the alert VolumeFilling."""
_GIGABYTE = 1000**3


def claim_not_bound(seen: Snapshot) -> Iterator[Finding]:
    """A claim that is not bound."""
    volumes = {volume["metadata"]["name"]: volume for volume in seen.of_kind("PersistentVolume")}
    for claim in seen.of_kind("PersistentVolumeClaim"):
        phase, wanted = claim.get("status", {}).get("phase"), claim["spec"].get("volumeName")
        if phase == "Bound" and wanted in volumes:
            continue
        if wanted and wanted not in volumes:
            why = f"its volume {wanted} is not there"
        elif wanted:
            why = f"its volume {wanted} is {volumes[wanted].get('status', {}).get('phase', 'not known')}"
        else:
            why = seen.warning(claim, "ProvisioningFailed", "FailedBinding") or "no volume fits it"
        yield Finding(
            subject_of(claim),
            f"The claim {claim['metadata']['name']} has no volume ({phase}): {why}.",
            "Run scripts/apply-all.sh: it makes volumes that are missing, with the data that lies in their folders, and"
            " lets one that was released be bound again.",
        )


def volume_nearly_full(seen: Snapshot) -> Iterator[Finding]:
    """A nearly full disk. The kubelet reports no usage of staging, which no server mounts, so the probe pod does."""
    disks = [*seen.disks]
    staging = seen.answers.get("staging")
    if staging and staging.size and staging.size not in {disk.size for disk in disks}:
        disks.append(Disk("", staging.free, staging.size, (f"{NAMESPACE}/etl-staging",)))
    for disk in disks:
        if disk.free < LEAST_FREE * disk.size:
            on = f"a disk of node {disk.node}" if disk.node else "the disk of staging"
            holds = f"; on it lie the claims {', '.join(disk.claims)}" if disk.claims else ""
            yield Finding(
                subject("disk", f"{disk.size / _GIGABYTE:.0f} GB of {disk.node or 'staging'}"),
                f"{on.capitalize()} is nearly full: {disk.free / _GIGABYTE:.1f} of {disk.size / _GIGABYTE:.0f} GB"
                f" ({disk.free / disk.size:.0%}) are free{holds}.",
                "Free room, or give it a larger disk: docs/runbooks/VolumeFilling.md says what takes it. A database"
                " whose disk is full stops.",
            )
