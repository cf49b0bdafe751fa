"""A Loki on loopback for tests, which can be restarted and keeps its data.

It is the program LOKI_PROGRAM, or a double of Loki's API, which is a test double and says so. Where LOKI_URL names one,
it is that, which is neither stopped nor configured.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import yaml

from dev.sandbox.process import die_with_parent, free_port
from dev.sandbox.stack import ROOT
from tests.harness.direct import DIRECT

URL, PROGRAM = os.environ.get("LOKI_URL", ""), os.environ.get("LOKI_PROGRAM", "")
# As deployed, except for addresses and folders.
CONFIGURATION = ROOT / "k8s" / "base" / "observability" / "loki" / "loki.yaml"
_DEPLOYED_FOLDER = "/var/lib/loki"
_START_SECONDS = 90

real_loki = pytest.mark.skipif(
    not (URL or PROGRAM), reason="only a real Loki shows this: give one in LOKI_PROGRAM or LOKI_URL"
)
loki_of_our_own = pytest.mark.skipif(
    bool(URL), reason="the Loki of LOKI_URL is neither stopped nor configured by tests"
)


def description() -> str:
    """The Loki that the tests use, for the header of their output."""
    if URL:
        return "Loki: the one that LOKI_URL names"
    return f"Loki: the program {PROGRAM}" if PROGRAM else "Loki: a double of its API, not Loki"


class LokiServer:
    """A Loki; `url` stays the same over stops and starts."""

    def __init__(self, folder: Path, limits: Mapping[str, Any] | None = None, *, tenants: bool = False) -> None:
        """`limits` override the deployed limits_config.

        With `tenants`, as deployed, requests go through the proxy (tests/harness/logs/loki_proxy.py).
        """
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        port = free_port()
        self.url = URL.rstrip("/") or f"http://127.0.0.1:{port}"
        program = [PROGRAM] if PROGRAM else [sys.executable, "-m", "loki_double"]
        self._command = (
            *program,
            f"-config.file={folder}/loki.yaml",
            "-config.expand-env=true",
            "-server.http-listen-address=127.0.0.1",
            f"-server.http-listen-port={port}",
            f"-server.grpc-listen-port={free_port()}",
        )
        text = CONFIGURATION.read_text()
        assert _DEPLOYED_FOLDER in text
        configuration = yaml.safe_load(text.replace(_DEPLOYED_FOLDER, f"{folder}/data"))
        configuration["limits_config"].update(limits or {})
        configuration["auth_enabled"] = tenants
        configuration["runtime_config"]["file"] = str(CONFIGURATION.with_name("overrides.yaml"))
        (folder / "loki.yaml").write_text(yaml.safe_dump(configuration))

    def start(self) -> None:
        """Start it, and wait until it takes lines."""
        if not URL:
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=os.environ | {"PYTHONPATH": str(ROOT / "tests" / "doubles")},
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent,
                )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if (self._process and self._process.poll() is not None) or time.monotonic() > deadline:
                raise RuntimeError(f"{description()}, at {self.url}, does not start; its log ends:\n{self._log_end()}")
            time.sleep(0.2)

    def stop(self, *, kindly: bool = False) -> None:
        """End it: at once, as on the loss of a node; or `kindly`, as Kubernetes does."""
        if self._process is not None:
            (self._process.terminate if kindly else self._process.kill)()
            self._process.wait()
            self._process = None

    def lines(self, query: str, minutes: int = 120) -> list[tuple[int, str, dict[str, str]]]:
        """Up to 5000 lines of the last minutes: time, line, and labels with the structured metadata."""
        now = time.time_ns()
        span = {"start": now - minutes * 60 * 10**9, "end": now + 10**9}
        streams = self.ask(query=query, **span, limit=5000, direction="forward")
        found = [(int(at), line, stream["stream"]) for stream in streams for at, line in stream["values"]]
        return sorted(found, key=lambda entry: entry[0])

    def ask(self, **parameters: str | int) -> list[dict[str, Any]]:
        """The result of a range query. Fails the test on an error."""
        result: list[dict[str, Any]] = self.answer(f"/loki/api/v1/query_range?{urlencode(parameters)}")["data"][
            "result"
        ]
        return result

    def answer(self, path: str) -> dict[str, Any]:
        """The whole response as JSON. Fails the test on an error."""
        status, text = self.call(path)
        assert status == 200, f"{description()}, answers {status}: {text}"
        answer: dict[str, Any] = json.loads(text)
        return answer

    def push(self, *streams: tuple[dict[str, str], list[list[Any]]]) -> tuple[int, str]:
        """Push streams, pairs of labels and values; returns status and message."""
        sent = {"streams": [{"stream": labels, "values": values} for labels, values in streams]}
        return self.call("/loki/api/v1/push", json.dumps(sent).encode(), "application/json")

    def call(self, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, str]:
        """The status and the text of an answer."""
        headers = {"Content-Type": kind} if kind else {}
        response = DIRECT.request("GET" if body is None else "POST", self.url + path, content=body, headers=headers)
        return response.status_code, response.text.strip()

    def _is_ready(self) -> bool:
        try:
            return "ready" in self.call("/ready")[1].splitlines()
        except httpx.TransportError:
            return False

    def _log_end(self) -> str:
        log = self._folder / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""


@contextmanager
def run_loki(folder: Path, limits: Mapping[str, Any] | None = None, *, tenants: bool = False) -> Iterator[LokiServer]:
    """A Loki that is up until the block ends."""
    server = LokiServer(folder, limits, tenants=tenants)
    server.start()
    try:
        yield server
    finally:
        server.stop()
