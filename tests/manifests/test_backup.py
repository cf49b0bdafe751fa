"""Backups are written where restore reads them, with the required rights and no others."""

import pytest

from tests.harness.manifests.pods import Container, Pod, pods_of, selected
from tests.harness.manifests.rendering import Rendering, renderings

BACKUPS = ("CronJob/metadata-backup", "CronJob/sink-backup", "CronJob/backup-copy")
FOLDER = "/var/lib/etl/backup"

each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


def by_owner(rendering: Rendering) -> dict[str, Pod]:
    return {pod.owner: pod for pod in pods_of(rendering)}


def folder_of(pod: Pod) -> list[str]:
    """The mount path of the volume of backups in a pod."""
    names = {one["name"] for one in pod.volumes if one.get("persistentVolumeClaim", {}).get("claimName") == "backup"}
    return [
        mount["mountPath"]
        for container in pod.containers
        for mount in container.content.get("volumeMounts", [])
        if mount["name"] in names
    ]


def secrets_of(container: Container) -> set[str]:
    """The keys of Secrets that a container is given; of a whole Secret its name."""
    keys = [one["valueFrom"]["secretKeyRef"] for one in container.content.get("env", []) if "valueFrom" in one]
    return {key["key"] for key in keys} | {name for kind, name in container.sources() if kind == "Secret"}


@each_rendering
def test_every_database_of_the_deployment_is_backed_up(rendering: Rendering) -> None:
    found = by_owner(rendering)
    assert "CronJob/metadata-backup" in found
    assert ("CronJob/sink-backup" in found) == ("StatefulSet/mssql" in found)


@each_rendering
def test_sql_server_writes_to_the_folder_that_the_backups_are_kept_in(rendering: Rendering) -> None:
    writers = {owner: folder_of(pod) for owner, pod in by_owner(rendering).items() if folder_of(pod)}
    assert writers.keys() == by_owner(rendering).keys() & {*BACKUPS, "StatefulSet/mssql"}
    assert all(paths == [FOLDER] for paths in writers.values())


@each_rendering
def test_who_backs_up_knows_the_password_of_its_database_and_no_other(rendering: Rendering) -> None:
    may = {
        "CronJob/metadata-backup": {"METADATA_PASSWORD"},
        "CronJob/sink-backup": {"SINK_BACKUP_PASSWORD"},
        "CronJob/backup-copy": {"backup-copy"},
        "CronJob/airflow-clean": {"METADATA_PASSWORD"},
    }
    found = by_owner(rendering)
    assert {owner: secrets_of(found[owner].containers[0]) for owner in may if owner in found} == {
        owner: keys for owner, keys in may.items() if owner in found
    }


@each_rendering
def test_what_dumps_the_metadata_database_is_of_its_version(rendering: Rendering) -> None:
    found = by_owner(rendering)
    images = [
        found[owner].containers[0].content["image"]
        for owner in ("CronJob/metadata-backup", "StatefulSet/metadata-postgres")
    ]
    assert images[0] == images[1]


@each_rendering
def test_backups_can_be_told_from_other_pods_by_a_label(rendering: Rendering) -> None:
    owners = {pod.owner for pod in selected(rendering, {"app.kubernetes.io/component": "backup"})}
    assert owners == by_owner(rendering).keys() & set(BACKUPS)
