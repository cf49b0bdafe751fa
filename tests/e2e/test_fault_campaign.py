"""Short fault campaigns with a fixed seed, on the deployment of the tests before.

`make chaos` injects hundreds, with a random seed.
"""

import pytest

from dev.sandbox.postgres import Postgres
from tests.chaos.trial import run_campaign
from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.testbed import EVIDENCE, TestBed

SEED, FAULTS = 7, 20
ONE_OF_EACH_KIND = (
    "delete load",
    "kill worker",
    "evict extract",
    "out of memory: airflow-api-server",
    "pause airflow-scheduler",
    "cut sink",
    "kill kubelet",
    "kill source",
    "fill staging",
    "sink: connection lost after the commit",
)


def test_one_fault_of_each_kind_loses_doubles_and_leaves_nothing(
    observed: Deployment, bed: TestBed, source: Postgres
) -> None:
    folder = EVIDENCE / "chaos-of-each-kind"
    folder.mkdir()
    count = len(ONE_OF_EACH_KIND)
    run_campaign(observed, source, bed.cluster, SEED, count, folder, ONE_OF_EACH_KIND)


@pytest.mark.acceptance
def test_whatever_fails_nothing_is_lost_doubled_or_left_behind(
    observed: Deployment, bed: TestBed, source: Postgres
) -> None:
    folder = EVIDENCE / "chaos"
    folder.mkdir()
    run_campaign(observed, source, bed.cluster, SEED, FAULTS, folder)
