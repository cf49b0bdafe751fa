"""Some minutes after all faults are reverted, no alert and no check reports them any more.

The file is named so that it comes after the faults of the alerts' and the doctor's tests, with something else between.
"""

from collections.abc import Iterator

import pytest

from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.doctor import OF_THE_MACHINE, Diagnosis, look
from tests.harness.e2e.observability import ALERTS, Watching

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def switched_on(airflow: Airflow) -> Iterator[None]:
    """Pipelines that the tests before left paused are paused again afterwards."""
    paused = [dag["dag_id"] for dag in airflow.api.get("/dags?tags=etl&paused=true&limit=100")["dags"]]
    for dag in paused:
        airflow.pause(dag, False)
    yield
    airflow.rest(*paused)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_told_no_more(watch: Watching, name: str) -> None:
    watch.await_calm(name, **ALERTS[name])


def test_a_failed_run_is_told_no_more_after_a_good_one(watch: Watching) -> None:
    watch.await_calm("DagFailing")


def test_the_doctor_says_that_all_is_well(switched_on: None, observed: Deployment) -> None:
    last: list[Diagnosis] = []

    def well() -> bool:
        last.append(look(observed))
        return not last[-1].causes.keys() - OF_THE_MACHINE

    wait_for("the doctor to find nothing", well, seconds=240)  # an alert ends minutes after its cause
    assert last[-1].code == (1 if last[-1].causes else 0)
