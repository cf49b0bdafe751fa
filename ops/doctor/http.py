"""HTTP requests to servers of the deployment, through forwarded ports, past all network policies."""

import urllib.error
from collections.abc import Sequence

from ops.cluster.console import DeployError
from ops.cluster.forwarding import LOOPBACK
from ops.cluster.kubectl import OBSERVABILITY, Kubectl
from ops.cluster.log_lines import shorten
from ops.doctor.snapshot import Snapshot

SECONDS = 8
"""The timeout of a request."""


def ask(kubectl: Kubectl, seen: Snapshot, service: str, port: int, paths: Sequence[str]) -> list[bytes]:
    """The responses of a Service in the namespace `observability` to some paths. Raises DeployError."""
    if not seen.ready_endpoints(service, OBSERVABILITY):
        raise DeployError("none of its pods is ready.")
    try:
        with kubectl.forward(service, port, OBSERVABILITY) as opened:
            return [_get(f"http://127.0.0.1:{opened.number}/{path}") for path in paths]
    except urllib.error.HTTPError as error:
        raise DeployError(f"it answers {error.code}: {shorten(error.read().decode(errors='replace'))}") from None
    except OSError as error:
        raise DeployError(f"{error}.") from None


def _get(url: str) -> bytes:
    with LOOPBACK.open(url, timeout=SECONDS) as response:
        answer: bytes = response.read()
    return answer
