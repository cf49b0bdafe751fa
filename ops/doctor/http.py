"""Asks a server of the deployment over HTTP, through a port that kubectl leads to it: past all network policies."""

import urllib.error
from collections.abc import Sequence

from ops.cluster.console import DeployError
from ops.cluster.forwarding import LOOPBACK
from ops.cluster.kubectl import OBSERVABILITY, Kubectl
from ops.cluster.log_lines import short
from ops.doctor.snapshot import Snapshot

SECONDS = 8
"""How long an answer may take."""


def ask(kubectl: Kubectl, seen: Snapshot, service: str, port: int, paths: Sequence[str]) -> list[bytes]:
    """What a Service of the namespace `observability` answers to some paths. Raises DeployError."""
    if not seen.ready_endpoints(service, OBSERVABILITY):
        raise DeployError("none of its pods is ready.")
    try:
        with kubectl.forward(service, port, OBSERVABILITY) as opened:
            return [_get(f"http://127.0.0.1:{opened.number}/{path}") for path in paths]
    except urllib.error.HTTPError as error:
        raise DeployError(f"it answers {error.code}: {short(error.read().decode(errors='replace'))}") from None
    except OSError as error:
        raise DeployError(f"{error}.") from None


def _get(url: str) -> bytes:
    with LOOPBACK.open(url, timeout=SECONDS) as response:
        answer: bytes = response.read()
    return answer
