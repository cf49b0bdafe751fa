"""Faults that stop processes for some seconds."""

import signal
from abc import abstractmethod
from typing import Any

from tests.faults import processes
from tests.faults.fault import Fault
from tests.faults.system import SystemUnderTest


class PauseProcesses(Fault):
    """Stops processes with SIGSTOP; they go on when it is healed."""

    def __init__(self, name: str, place: str = "") -> None:
        super().__init__(name, place)
        self._stopped: dict[int, str] = {}

    @abstractmethod
    def processes(self, system: SystemUnderTest, target: Any) -> list[int]:
        """The processes to stop."""

    def inject(self, system: SystemUnderTest, target: Any) -> None:
        self._stopped = {process: processes.started(process) for process in self.processes(system, target)}
        if not processes.kill(list(self._stopped), signal.SIGSTOP):
            raise OSError(f"{target} has ended before")

    def heal(self, system: SystemUnderTest) -> None:
        # The number of a process that has ended meanwhile may be in use again.
        same = [process for process, started in self._stopped.items() if processes.started(process) == started]
        processes.kill(same, signal.SIGCONT)
        self._stopped = {}
