"""Faults below and beside the pods: the kubelet, the operational Postgres, the disk of the staging volume."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.faults import processes
from tests.faults.fault import Fault
from tests.faults.pause import PauseProcesses
from tests.faults.system import SystemUnderTest

_BLOCK = bytes(1 << 16)


def machine_faults() -> Iterator[Fault]:
    """All of them."""
    yield PauseKubelet()
    yield KillKubelet()
    yield KillSource()
    yield PauseSource()
    yield FillStaging()


def _kubelet(system: SystemUnderTest) -> list[int]:
    return (
        processes.with_arguments("/kubelet ", f"--root-dir={system.node.cluster.folder}/kubelet") if system.node else []
    )


class PauseKubelet(PauseProcesses):
    """The node reports nothing and starts nothing for some seconds; running containers go on."""

    longest = 20.0

    def __init__(self) -> None:
        super().__init__("pause kubelet", place="kubelet")

    def targets(self, system: SystemUnderTest) -> Sequence[int]:
        return _kubelet(system)

    def processes(self, system: SystemUnderTest, target: int) -> list[int]:
        return [target]


class KillKubelet(Fault):
    """The kubelet dies; its supervisor, as systemd does, starts it again."""

    def __init__(self) -> None:
        super().__init__("kill kubelet")

    def targets(self, system: SystemUnderTest) -> Sequence[int]:
        return _kubelet(system)

    def inject(self, system: SystemUnderTest, target: int) -> None:
        if not processes.kill([target], signal.SIGKILL):
            raise OSError("the kubelet has ended before")


class KillSource(Fault):
    """The operational Postgres dies with all its sessions, and comes back after some seconds."""

    longest = 8.0

    def __init__(self) -> None:
        super().__init__("kill source", place="source")

    def targets(self, system: SystemUnderTest) -> Sequence[str]:
        return ["source"] if system.source.server else []

    def inject(self, system: SystemUnderTest, target: str) -> None:
        assert system.source.server
        system.source.server.crash()

    def heal(self, system: SystemUnderTest) -> None:
        if system.source.server:
            system.source.server.start()


class PauseSource(PauseProcesses):
    """The operational Postgres stands still for some seconds."""

    longest = 12.0

    def __init__(self) -> None:
        super().__init__("pause source", place="source")

    def targets(self, system: SystemUnderTest) -> Sequence[str]:
        return ["source"] if system.source.server else []

    def processes(self, system: SystemUnderTest, target: str) -> list[int]:
        assert system.source.server
        return system.source.server.processes()


class FillStaging(Fault):
    """The staging volume has no room for some seconds."""

    longest = 15.0

    def __init__(self) -> None:
        super().__init__("fill staging")

    def targets(self, system: SystemUnderTest) -> Sequence[Path]:
        return [system.node.staging_from_outside / "filler"] if system.node else []

    def inject(self, system: SystemUnderTest, target: Path) -> None:
        with target.open("wb", buffering=0) as file, suppress(OSError):  # it is full
            while True:
                file.write(_BLOCK)

    def heal(self, system: SystemUnderTest) -> None:
        if system.node:
            (system.node.staging_from_outside / "filler").unlink(missing_ok=True)
