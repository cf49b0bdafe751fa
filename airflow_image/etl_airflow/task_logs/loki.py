"""Client of Loki's HTTP API, for task logs."""

import gzip
import json
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from etl_airflow.task_logs.identity import Identity

Value = tuple[int, str]
"""A line and its time in nanoseconds since 1970."""

_TIMEOUT = httpx.Timeout(10, connect=3)
# Statuses that mean that the lines are at fault. After any other (429, 5xx, a wrong address) they are sent again.
_REFUSALS = (400, 413, 422)


class LokiUnavailableError(Exception):
    """Loki does not answer, or not now; the message has the reason."""


class LokiRefusedError(Exception):
    """Loki refuses these lines or this query for good; the message is Loki's."""


@dataclass(frozen=True, order=True)
class Entry:
    """A line in Loki."""

    nanoseconds: int
    path: str
    line: str


class Loki:
    """Client of a Loki without tenants, or behind a proxy that sets the tenant."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._redacted_url = re.sub("//.*@", "//", self.url)
        secure = ssl.create_default_context() if self.url.startswith("https:") else False
        # Not through a proxy of the environment: Loki is in the cluster.
        self._client = httpx.Client(base_url=self.url, timeout=_TIMEOUT, trust_env=False, verify=secure)

    def push(self, identity: Identity, values: Sequence[Value]) -> None:
        """Send lines. Identical lines sent twice are stored once."""
        metadata = identity.metadata
        lines = [[str(nanoseconds), line, metadata] for nanoseconds, line in values]
        body = json.dumps({"streams": [{"stream": identity.labels, "values": lines}]}, ensure_ascii=False)
        content = gzip.compress(body.encode("utf-8", errors="replace"), 3)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        self._request("POST", "/loki/api/v1/push", content=content, headers=headers)

    def query(self, query: str, start: int, end: int, limit: int) -> list[Entry]:
        """The first `limit` lines from `start` to before `end`, by time."""
        parameters = {"query": query, "start": start, "end": end, "limit": limit, "direction": "forward"}
        response = self._request("GET", "/loki/api/v1/query_range", params=parameters)
        try:
            # Loki returns structured metadata as labels, so one attempt's lines may come as several streams.
            return sorted(
                Entry(int(value[0]), stream["stream"].get("path", ""), value[1])
                for stream in response.json()["data"]["result"]
                for value in stream["values"]
            )
        except (ValueError, LookupError, TypeError) as error:
            raise LokiUnavailableError(
                f"{self._redacted_url} does not answer like Loki: {response.text[:200]}"
            ) from error

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise LokiUnavailableError(f"{self._redacted_url} does not answer: {reason}") from error
        if response.is_success:
            return response
        message = f"{self._redacted_url} answers {response.status_code}: {response.text.strip()[:500]}"
        raise (LokiRefusedError if response.status_code in _REFUSALS else LokiUnavailableError)(message)
