"""Images of the pods that scheduler and workers may create, during an upgrade."""

from ops.cluster.kubectl import Object
from ops.cluster.names import AIRFLOW_SETTINGS
from ops.deploy.manifests.rendering import Rendering

IMAGES_BEFORE = "etl-poc/images-before"
"""Annotation of the settings: more images that `etl-poc-launched-pods` (k8s/base/launched-pods) allows."""
_WORKER = "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER"


def allow_images_before(rendering: Rendering, live: Object | None) -> None:
    """Allow the images of the previous version until there is a next one.

    Its scheduler runs until the new one is ready, and its workers until their tasks end: their pods must be admitted.
    """
    for settings in rendering.of_kind("ConfigMap"):
        if live and settings["metadata"]["name"] == AIRFLOW_SETTINGS:
            before = _images(live) - _images(settings)
            images = " ".join(sorted(before)) or live["metadata"].get("annotations", {}).get(IMAGES_BEFORE)
            if images:
                settings["metadata"].setdefault("annotations", {})[IMAGES_BEFORE] = images


def launched_images(rendering: Rendering) -> set[str]:
    """The images of pods that scheduler and workers create."""
    settings = [item for item in rendering.of_kind("ConfigMap") if item["metadata"]["name"] == AIRFLOW_SETTINGS]
    return set().union(*map(_images, settings))


def _images(settings: Object) -> set[str]:
    data = settings.get("data") or {}
    worker = ":".join(filter(None, (data.get(f"{_WORKER}_{part}") for part in ("REPOSITORY", "TAG"))))
    return {image for image in (data.get("ETL_IMAGE"), worker) if image}
