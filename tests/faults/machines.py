"""Faults below and beside the pods: the kubelet, the operational Postgres, the disk of the staging volume."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.faults import processes
from tests.faults.fault import Fault
from tests.faults.pods import Stopped
from tests.faults.target import Scene

_BLOCK = bytes(1 << 16)


def machine_faults() -> Iterator[Fault]:
    """All of them."""
    yield PauseKubelet()
    yield KillKubelet()
    yield KillSource()
    yield PauseSource()
    yield FillStaging()


def _kubelet(scene: Scene) -> list[int]:
    return processes.with_words("/kubelet ", f"--root-dir={scene.node.cluster.folder}/kubelet") if scene.node else []


class PauseKubelet(Fault):
    """The node says nothing and starts nothing for some seconds; what runs goes on."""

    longest = 20.0

    def __init__(self) -> None:
        super().__init__("pause kubelet", place="kubelet")
        self._stopped: Stopped | None = None

    def targets(self, scene: Scene) -> Sequence[int]:
        return _kubelet(scene)

    def inject(self, scene: Scene, target: int) -> None:
        self._stopped = Stopped([target])

    def heal(self, scene: Scene) -> None:
        if self._stopped:
            self._stopped.go_on()
            self._stopped = None


class KillKubelet(Fault):
    """The kubelet dies; its supervisor, as systemd does, starts it again."""

    def __init__(self) -> None:
        super().__init__("kill kubelet")

    def targets(self, scene: Scene) -> Sequence[int]:
        return _kubelet(scene)

    def inject(self, scene: Scene, target: int) -> None:
        if not processes.kill([target], signal.SIGKILL):
            raise OSError("the kubelet has ended by itself")


class KillSource(Fault):
    """The operational Postgres dies with all its sessions, and comes back after some seconds."""

    longest = 8.0

    def __init__(self) -> None:
        super().__init__("kill source", place="source")

    def targets(self, scene: Scene) -> Sequence[str]:
        return ["source"] if scene.source.server else []

    def inject(self, scene: Scene, target: str) -> None:
        assert scene.source.server
        scene.source.server.crash()

    def heal(self, scene: Scene) -> None:
        if scene.source.server:
            scene.source.server.start()


class PauseSource(Fault):
    """The operational Postgres stands still for some seconds."""

    longest = 12.0

    def __init__(self) -> None:
        super().__init__("pause source", place="source")
        self._stopped: Stopped | None = None

    def targets(self, scene: Scene) -> Sequence[str]:
        return ["source"] if scene.source.server else []

    def inject(self, scene: Scene, target: str) -> None:
        assert scene.source.server
        self._stopped = Stopped(scene.source.server.processes())

    def heal(self, scene: Scene) -> None:
        if self._stopped:
            self._stopped.go_on()
            self._stopped = None


class FillStaging(Fault):
    """The staging volume has no room for some seconds."""

    longest = 15.0

    def __init__(self) -> None:
        super().__init__("fill staging")

    def targets(self, scene: Scene) -> Sequence[Path]:
        return [scene.node.staging_seen_from_here / "filler"] if scene.node else []

    def inject(self, scene: Scene, target: Path) -> None:
        with target.open("wb", buffering=0) as file, suppress(OSError):  # it is full
            while True:
                file.write(_BLOCK)

    def heal(self, scene: Scene) -> None:
        if scene.node:
            (scene.node.staging_seen_from_here / "filler").unlink(missing_ok=True)
