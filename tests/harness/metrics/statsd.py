"""StatsD: a server that keeps the lines sent to it, and a model of the StatsD exporter's mapping."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from dev.sandbox.process import free_port
from tests.harness.direct import DIRECT
from tests.harness.server import running

KINDS = {"c": "counter", "g": "gauge", "ms": "observer"}


@dataclass(frozen=True)
class Line:
    """One measurement as it was sent: `name,label=value,…:number|kind`."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    kind: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a line. Raises ValueError if a tag is not NAME=VALUE."""
        about, measured = text.rsplit(":", 1)
        name, *tags = about.split(",")
        value, kind = measured.split("|")[:2]
        labels = []
        for tag in tags:
            key, equals, content = tag.partition("=")
            if not (key and equals and content):
                raise ValueError(f"{text}: tag {tag} is not NAME=VALUE")
            labels.append((key, content))
        return cls(name, tuple(sorted(labels)), float(value), KINDS[kind])


class Listener:
    """A StatsD server on a free UDP port of loopback that keeps every line."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.texts: list[str] = []

    @property
    def lines(self) -> list[Line]:
        """The lines so far."""
        return [Line.parse(text) for text in list(self.texts)]

    def catch_up(self) -> None:
        """Wait until all that was sent before has been read: loopback keeps the order."""
        end = f"end.of.{time.monotonic_ns()}:1|c"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(end.encode(), ("127.0.0.1", self.port))
        while end not in self.texts:
            time.sleep(0.01)
        self.texts.remove(end)

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                self.texts += self._socket.recv(65536).decode().splitlines()


@dataclass(frozen=True)
class Series:
    """A metric as Prometheus gets it; `kind` is counter, gauge or histogram."""

    name: str
    kind: str
    labels: frozenset[str]


class Mapping:
    """A model of the exporter's mapping file, as far as the file uses its features."""

    def __init__(self, file: Path) -> None:
        self._rules = yaml.safe_load(file.read_text())["mappings"]

    def series(self, line: Line) -> Series | None:
        """The series of a line; None if a rule drops it."""
        kind = "histogram" if line.kind == "observer" else line.kind
        labels = {name for name, _ in line.labels}
        rule, found = self._rule(line)
        if rule is None or found is None:
            return Series(re.sub(r"[^a-zA-Z0-9_]", "_", line.name), kind, frozenset(labels))
        if rule.get("action") == "drop":
            return None
        name = re.sub(r"\$(\d+)", lambda place: found[int(place[1])], rule["name"])
        return Series(name, kind, frozenset(labels | set(rule.get("labels", {}))))

    def ttl(self, line: Line) -> str:
        """The ttl of a line's series; empty: it stays."""
        rule, _ = self._rule(line)
        return str((rule or {}).get("ttl", ""))

    def _rule(self, line: Line) -> tuple[dict[str, Any] | None, re.Match[str] | None]:
        for rule in self._rules:
            if rule.get("match_metric_type", line.kind) != line.kind:
                continue
            pattern = rule["match"]
            if rule.get("match_type") != "regex":
                pattern = "^" + re.escape(pattern).replace(r"\*", "([^.]*)") + "$"
            if found := re.search(pattern, line.name):
                return rule, found
        return None, None


@contextmanager
def run_statsd_exporter(program: Path, mapping: Path, log: Path) -> Iterator[tuple[int, str]]:
    """Run the real exporter; yields its TCP port for StatsD lines, and the URL of its metrics."""
    statsd, web = free_port(), free_port()
    command = [
        str(program),
        f"--statsd.mapping-config={mapping}",
        "--statsd.listen-udp=",
        f"--statsd.listen-tcp=127.0.0.1:{statsd}",
        f"--web.listen-address=127.0.0.1:{web}",
    ]
    url = f"http://127.0.0.1:{web}/metrics"
    with running(command, log, lambda: DIRECT.get(url)):
        yield statsd, url


def scrape(url: str) -> dict[str, Metric]:
    """The metrics of an exporter by name; a counter's without _total, if its samples have that."""
    text = DIRECT.get(url, timeout=10).raise_for_status().text
    metrics = {metric.name: metric for metric in text_string_to_metric_families(text)}
    shown = set(re.findall(r"^\w+", text, re.MULTILINE))
    for metric in metrics.values():
        # The parser gives it to every counter.
        if metric.type == "counter" and f"{metric.name}_total" not in shown:
            metric.samples = [sample._replace(name=metric.name) for sample in metric.samples]
    return metrics
