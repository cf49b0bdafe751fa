"""Faults to inject into a deployment; `all_faults` are those of campaigns."""

from tests.faults.fault import Fault
from tests.faults.machines import machine_faults
from tests.faults.network import network_faults
from tests.faults.pods import pod_faults
from tests.faults.sink import sink_faults

__all__ = ["Fault", "all_faults"]


def all_faults() -> dict[str, Fault]:
    """One of each kind, by name."""
    found = [*pod_faults(), *network_faults(), *machine_faults(), *sink_faults()]
    return {fault.name: fault for fault in found}
