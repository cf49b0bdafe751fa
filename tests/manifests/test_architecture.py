"""docs/architecture.md and the drawing in docs/architecture.html name the deployed objects, all and no others."""

import re

import pytest

from tests.harness.manifests.documents import DRAWING, documented_rights, drawn_objects, objects_in_text
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import JOBS, SERVERS, all_pods, step, worker
from tests.harness.manifests.rendering import Rendering, name_of, rendering

COMPONENTS = (*SERVERS, *JOBS, "Service", "Ingress", "PersistentVolume", "HorizontalPodAutoscaler")
"""The kinds of which every object is named."""
DRAWN = dict(drawn_objects())
STARTED = {pod.owner for pod in (worker(rendering(DEFAULT)), step(rendering(DEFAULT)))}
"""The pods that Airflow starts."""


def components(found: Rendering) -> set[str]:
    return {name_of(item) for item in found.of_kind(*COMPONENTS)} | STARTED


def existing(found: Rendering) -> set[str]:
    return {name_of(item) for item in found.objects} | STARTED


@pytest.mark.parametrize("name", [DEFAULT, "multi-node"])
def test_the_text_names_every_component(name: str) -> None:
    assert components(rendering(name)) - objects_in_text() == set()


def test_the_text_names_nothing_that_is_not_deployed() -> None:
    assert objects_in_text() - existing(rendering(DEFAULT)) - existing(rendering("multi-node")) == set()


def test_the_drawing_has_every_component_of_one_machine() -> None:
    assert components(rendering(DEFAULT)) - DRAWN.keys() == set()


def test_the_drawing_has_nothing_that_is_not_deployed() -> None:
    assert DRAWN.keys() - existing(rendering(DEFAULT)) == set()


@pytest.mark.parametrize("component", DRAWN)
def test_what_is_drawn_bears_its_name(component: str) -> None:
    words = " ".join(DRAWN[component].itertext()).split()
    assert component.partition("/")[2] in words


def test_the_drawing_marks_who_holds_the_passwords_of_source_and_sink() -> None:
    holders = {
        pod.owner
        for pod in all_pods(rendering(DEFAULT))
        for container in pod.containers
        if {"SOURCE_PASSWORD", "SINK_PASSWORD"} & container.environment().keys()
    }
    assert {name for name, part in DRAWN.items() if any(one.get("href") == "#key" for one in part.iter())} == holders


def test_each_component_is_drawn_once() -> None:
    names = [component for component, _ in drawn_objects()]
    assert sorted(names) == sorted(set(names))


def test_the_drawing_needs_nothing_from_elsewhere_and_is_legible_in_the_dark() -> None:
    page = DRAWING.read_text()
    assert not re.search(r"<(?:script|link|img|iframe|object|embed|image)\b|@import|url\((?!#)", page)
    assert not re.search(r"(?:src|href)=\"(?!#|architecture\.md)", page)
    assert "prefers-color-scheme: dark" in page


def test_rights_are_documented() -> None:
    assert documented_rights().keys() == {
        "airflow-scheduler",
        "airflow-worker",
        "airflow-api-server",
        "prometheus",
        "kube-state-metrics",
    }
