"""Faults that the stand-in for SQL Server has on demand: in the middle of a load, whenever the next one comes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mssql_python
from etl.config.reach import UnreachableError

from tests.faults.fault import Fault
from tests.faults.target import Scene
from tests.harness.e2e.live_pods import Pod


class OnDemand(NamedTuple):
    """A fault of dev.sandbox.sqlserver.faults, how much of it, and how often."""

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
    for told, demanded in FAULTS.items():
        yield InSink(told, demanded)


class InSink(Fault):
    """Has the stand-in fail; what asks it next meets the fault."""

    def __init__(self, told: str, demanded: OnDemand) -> None:
        super().__init__(f"sink: {told}")
        self._demanded = demanded

    def targets(self, scene: Scene) -> Sequence[Pod]:
        return [pod for pod in scene.pods.of("mssql") if pod.ready] if scene.sink_is_stand_in else []

    def inject(self, scene: Scene, target: Pod) -> None:
        fault, value, times = self._demanded
        try:
            with scene.sink_as_administrator() as sink:
                sink.execute(f"EXEC standin_inject @fault = N'{fault}', @value = {value}, @times = {times}")
        except (mssql_python.Error, UnreachableError, RuntimeError) as error:
            raise OSError(f"the stand-in does not answer: {error}") from error
