"""The proxy before Loki, on loopback: Caddy, built from its Go module, with the configuration that is deployed."""

import http.client
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from dev.sandbox.process import free_port
from tests.cluster.building.binaries import CADDY, build
from tests.harness.logs.loki import CONFIGURATION, LokiServer
from tests.harness.server import running

READ, TASKS, NODES, AUDIT, STATE = 3100, 3101, 3102, 3103, 3104
PUSH, QUERY = "/loki/api/v1/push", "/loki/api/v1/query_range"
_FILE = CONFIGURATION.with_name("Caddyfile")
_LOKI = "127.0.0.1:3099"


@dataclass(frozen=True)
class Proxy:
    """Ports of loopback in the place of those that are deployed."""

    ports: Mapping[int, int]

    def url(self, port: int) -> str:
        """The local URL for a deployed port."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def call(self, port: int, method: str, path: str, body: bytes = b"", /, **headers: str) -> tuple[int, str]:
        """Status and text of a response. The path is sent unchanged."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def push(self, port: int, labels: Mapping[str, str], line: str, **headers: str) -> tuple[int, str]:
        """Send a line."""
        sent = {"streams": [{"stream": labels, "values": [[str(time.time_ns()), line]]}]}
        return self.call(port, "POST", PUSH, json.dumps(sent).encode(), Content_Type="application/json", **headers)

    def find(self, port: int, query: str, **headers: str) -> list[tuple[dict[str, str], str]]:
        """Labels and text of the lines of the last hour."""
        now = time.time_ns()
        asked = {"query": query, "start": now - 3600 * 10**9, "end": now + 10**9, "direction": "forward"}
        status, text = self.call(port, "GET", f"{QUERY}?{urlencode(asked)}", **headers)
        assert status == 200, text
        answer: dict[str, Any] = json.loads(text)
        return [(stream["stream"], line) for stream in answer["data"]["result"] for _, line in stream["values"]]


@contextmanager
def run_proxy(folder: Path, loki: LokiServer) -> Iterator[Proxy]:
    """The proxy before a Loki, until the block ends."""
    text = _FILE.read_text()
    deployed = [int(port) for port in re.findall(r"^:(\d+) \{$", text, re.MULTILINE)]
    proxy = Proxy({port: free_port() for port in deployed})
    assert _LOKI in text
    text = text.replace(_LOKI, urlsplit(loki.url).netloc).replace("{\n", "{\n\tdefault_bind 127.0.0.1\n", 1)
    text = re.sub(r"^:(\d+) \{$", lambda found: f":{proxy.ports[int(found[1])]} {{", text, flags=re.MULTILINE)
    (folder / "Caddyfile").write_text(text)
    options = ("--config", str(folder / "Caddyfile"), "--adapter", "caddyfile")
    # As in its container, whose file system is read-only.
    environment = os.environ | {"HOME": "/proc/none", "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}

    def is_alive() -> bool:
        return proxy.call(STATE, "GET", "/alive")[0] == 200

    with running([build(CADDY) / "caddy", "run", *options], folder / "caddy.log", is_alive, env=environment):
        yield proxy
