"""A short campaign of faults, the same ones every time, on the deployment that all tests before have used.

`make chaos` does hundreds, of a seed that it draws.
"""

from tests.chaos.trial import endure
from tests.e2e.conftest import EVIDENCE, Ground
from tests.e2e.deployment import Deployment
from tests.support.postgres import Postgres

SEED, FAULTS = 7, 20


def test_whatever_fails_nothing_is_lost_doubled_or_left_behind(
    observed: Deployment, ground: Ground, source: Postgres
) -> None:
    folder = EVIDENCE / "chaos"
    folder.mkdir()
    endure(observed, source, ground.cluster, SEED, FAULTS, folder)
