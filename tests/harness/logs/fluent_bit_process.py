"""The Fluent Bit that FLUENT_BIT_PROGRAM names, with the configuration that is deployed, and logs as on a node."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import yaml

from dev.sandbox.process import die_with_parent, free_port
from dev.sandbox.stack import ROOT
from dev.sandbox.waiting import wait_for
from tests.harness.direct import DIRECT

PROGRAM = os.environ.get("FLUENT_BIT_PROGRAM", "")
NODE = "node-1"
_DEPLOYED = ROOT / "k8s" / "base" / "observability" / "fluent-bit" / "fluent-bit.yaml"


class FluentBit:
    """A Fluent Bit on loopback that reads the logs of a folder, and keeps its state there over restarts."""

    def __init__(self, folder: Path, loki_port: int) -> None:
        self.folder = folder
        self.port, self._alive_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("log/pods", "log/journal", "run", "state"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        text = _DEPLOYED.read_text()
        for deployed, here in (
            ("/var/log/", f"{folder}/log/"),
            ("/run/log/journal", f"{folder}/run"),
            ("/var/lib/fluent-bit/", f"{folder}/state/"),
            ("host: loki.observability", "host: 127.0.0.1"),
            ("port: 3102", f"port: {loki_port}"),
            ("http_port: 2020", f"http_port: {self.port}"),
            ("port: 2021", f"port: {self._alive_port}"),
            ("0.0.0.0", "127.0.0.1"),
        ):
            assert deployed in text, f"The configuration that is deployed no longer has {deployed}."
            text = text.replace(deployed, here)
        self.configuration = yaml.safe_load(text)

    def start(self) -> None:
        """Start it, and wait until it answers as the kubelet wants it to."""
        (self.folder / "fluent-bit.yaml").write_text(yaml.safe_dump(self.configuration, sort_keys=False, width=10_000))
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, f"--config={self.folder}/fluent-bit.yaml"],
                env=os.environ | {"NODE_NAME": NODE},
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        wait_for(self.is_alive)

    def stop(self) -> None:
        """End it as the kubelet does, and wait until it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process
        return self._process.pid

    def is_alive(self) -> bool:
        """The result of the kubelet's liveness probe."""
        return _status(f"http://127.0.0.1:{self._alive_port}/health") == 200

    def is_healthy(self) -> bool:
        """The result of Fluent Bit's health check."""
        return _status(f"http://127.0.0.1:{self.port}/api/v1/health") == 200

    def metric(self, name: str, of: str = "") -> float:
        """The sum of a metric's series, or of those whose label `name` is this."""
        response = DIRECT.get(f"http://127.0.0.1:{self.port}/api/v2/metrics/prometheus", timeout=10)
        if response.is_error:  # in its first second it has none
            return 0
        found = re.findall(rf"^{name}\{{(.*)\}} = ?(\S+)$|^{name}\{{(.*)\}} (\S+)$", response.text, re.MULTILINE)
        wanted = f'name="{of}"' if of else ""
        return sum(float(one[1] or one[3]) for one in found if wanted in (one[0] or one[2]))


def _status(url: str) -> int:
    try:
        return DIRECT.get(url, timeout=2).status_code
    except httpx.TransportError:
        return 0


class ContainerLog:
    """The log of one container, as containerd writes it and the kubelet renames it."""

    def __init__(self, fluent_bit: FluentBit, pod: str, namespace: str = "etl-poc", container: str = "main") -> None:
        folder = fluent_bit.folder / "log" / "pods" / f"{namespace}_{pod}_0b9d7f3e" / container
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "0.log"

    def write(self, lines: Iterable[str]) -> None:
        """Print lines."""
        with self.path.open("a") as file:
            file.writelines(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z stdout F {line}\n" for line in lines)

    def rotate(self) -> Path:
        """Begin a new file; the old one has another name from now on."""
        renamed = self.path.with_name(f"0.log.{datetime.now(UTC):%Y%m%d-%H%M%S}")
        self.path.rename(renamed)
        self.path.touch()
        return renamed


@contextmanager
def run_fluent_bit(folder: Path, loki_port: int) -> Iterator[FluentBit]:
    """A Fluent Bit that is up until the block ends."""
    fluent_bit = FluentBit(folder, loki_port)
    fluent_bit.start()
    try:
        yield fluent_bit
    finally:
        fluent_bit.kill()
