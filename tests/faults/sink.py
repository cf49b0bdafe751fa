"""Faults of the SQL Server double on demand: in the middle of the next load."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mssql_python
from etl.config.reach import UnreachableError

from tests.faults.double import inject
from tests.faults.fault import Fault
from tests.faults.system import SystemUnderTest
from tests.harness.e2e.live_pods import Pod


class OnDemand(NamedTuple):
    """A fault of dev.sandbox.sqlserver.faults, its value, and the number of times."""

    fault: str
    value: int = 0
    times: int = 1


FAULTS = {
    "stand still in mid-bulk-load": OnDemand("bulk_delay", 8000),
    "stand still in mid-transaction": OnDemand("statement_delay", 5000, 3),
    "slow packets": OnDemand("slow_network", 100, 50),
    "connection lost in mid-bulk-load": OnDemand("drop_connection_after_bulk_rows", 40),
    "connection lost before the commit": OnDemand("drop_connection_before_commit"),
    "connection lost after the commit": OnDemand("drop_connection_after_commit"),
    "deadlock": OnDemand("deadlock_victim"),
    "lock not granted": OnDemand("lock_timeout"),
    "disk full": OnDemand("disk_full"),
    "rows lost in mid-bulk-load": OnDemand("lose_bulk_rows", 1),
}


def sink_faults() -> Iterator[Fault]:
    """All of them."""
    for name, demanded in FAULTS.items():
        yield InSink(name, demanded)


class InSink(Fault):
    """Makes the double fail at the next matching request."""

    def __init__(self, name: str, demanded: OnDemand) -> None:
        super().__init__(f"sink: {name}")
        self._demanded = demanded

    def targets(self, system: SystemUnderTest) -> Sequence[Pod]:
        return [pod for pod in system.pods.of("mssql") if pod.ready] if system.sink_is_double else []

    def inject(self, system: SystemUnderTest, target: Pod) -> None:
        try:
            with system.deployment.sink_as_administrator() as sink:
                inject(sink, *self._demanded)
        except (mssql_python.Error, UnreachableError, RuntimeError) as error:
            raise OSError(f"the SQL Server double does not answer: {error}") from error
