"""The real Loki on loopback, with a folder of its own: it can be stopped and started again, and keeps what it has."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.cluster.binaries import LOKI, build
from tests.support.process import die_with_parent, free_port
from tests.support.stack import ROOT

# As it is deployed, but for where it listens and writes.
_CONFIGURATION = ROOT / "k8s" / "base" / "observability" / "loki" / "loki.yaml"
_DEPLOYED_FOLDER = "/var/lib/loki"
_START_SECONDS = 90


class LokiServer:
    """A Loki; `url` stays the same over stops and starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._flags = (
            f"-config.file={folder}/loki.yaml",
            "-config.expand-env=true",
            "-server.http-listen-address=127.0.0.1",
            f"-server.http-listen-port={port}",
            f"-server.grpc-listen-port={free_port()}",
        )
        configuration = _CONFIGURATION.read_text()
        assert _DEPLOYED_FOLDER in configuration
        (folder / "loki.yaml").write_text(configuration.replace(_DEPLOYED_FOLDER, f"{folder}/data"))

    def start(self) -> None:
        """Start it, and wait until it takes lines."""
        program = build(LOKI) / "loki"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *self._flags],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Loki does not start; its log ends:\n{self._log_end()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it, as a node that goes away does: at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lines(self, query: str, minutes: int = 120) -> list[tuple[int, str, dict[str, str]]]:
        """Up to 5000 lines of the last minutes: time, line, and labels with the structured metadata."""
        now = time.time_ns()
        parameters = {"query": query, "start": now - minutes * 60 * 10**9, "end": now + 10**9, "limit": 5000}
        answer = self._get(f"/loki/api/v1/query_range?{urlencode({**parameters, 'direction': 'forward'})}")
        streams: list[dict[str, Any]] = json.loads(answer)["data"]["result"]
        found = [(int(at), line, stream["stream"]) for stream in streams for at, line in stream["values"]]
        return sorted(found, key=lambda entry: entry[0])

    def _is_ready(self) -> bool:
        try:
            return b"ready" in self._get("/ready")
        except (URLError, OSError):
            return False

    def _get(self, path: str) -> bytes:
        with urlopen(self.url + path, timeout=30) as response:
            body: bytes = response.read()
        return body

    def _log_end(self) -> str:
        return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-20:])


@contextmanager
def run_loki(folder: Path) -> Iterator[LokiServer]:
    """A Loki that is up until the block ends."""
    server = LokiServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
