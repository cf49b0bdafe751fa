"""Every fault that a campaign draws from, by name."""

from tests.chaos.faults.fault import Fault
from tests.chaos.faults.of_machines import machine_faults
from tests.chaos.faults.of_network import network_faults
from tests.chaos.faults.of_pods import pod_faults
from tests.chaos.faults.of_sink import sink_faults

__all__ = ["Fault", "all_faults"]


def all_faults() -> dict[str, Fault]:
    """One of each."""
    found = [*pod_faults(), *network_faults(), *machine_faults(), *sink_faults()]
    return {fault.name: fault for fault in found}
