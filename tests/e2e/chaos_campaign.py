"""A full fault campaign: `make chaos`. The short one is test_fault_campaign.py."""

import secrets

import pytest

from dev.sandbox.postgres import Postgres
from tests.chaos.trial import run_campaign
from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.testbed import EVIDENCE, TestBed


def test_whatever_fails_nothing_is_lost_doubled_or_left_behind(
    observed: Deployment, bed: TestBed, source: Postgres, pytestconfig: pytest.Config
) -> None:
    given, faults = pytestconfig.getoption("--seed"), pytestconfig.getoption("--faults")
    seed = secrets.randbelow(1_000_000) if given is None else given
    print(f'{faults} faults of seed {seed}; again by: make chaos OPTIONS="--faults {faults} --seed {seed}"', flush=True)
    folder = EVIDENCE / "chaos"
    folder.mkdir()
    run_campaign(observed, source, bed.cluster, seed, faults, folder)
