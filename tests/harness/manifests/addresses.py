"""Addresses of servers in settings."""

import re
from string import Template

from tests.harness.manifests.pods import Pod

_HOST_AND_PORT = re.compile(
    r"://(?:[^@/\s]*@)?([a-z][\w.-]*):(\d+)"
    r"|\bhost=([\w.-]+) port=(\d+)"
    r"|\bhost: ([\w.-]+)\n +port: (\d+)"
    r'|targets: \["([a-z][\w.-]*):(\d+)"\]'
)
"""As in URLs, and as PgBouncer, Fluent Bit and Prometheus have it."""


def servers_in(text: str, namespace: str) -> set[tuple[str, int]]:
    """The Services, with namespace and port, that a text in a namespace names; no servers outside."""
    found = set()
    for match in _HOST_AND_PORT.findall(text):
        host, port = filter(None, match)
        if host != "localhost" and host.count(".") <= 1:
            found.add((full_name(host, namespace), int(port)))
    return found


def full_name(host: str, namespace: str) -> str:
    """A Service with its namespace, as a name for any namespace."""
    return host if "." in host else f"{host}.{namespace}"


def variables(pod: Pod) -> list[str]:
    """The values of a pod's variables; those that are put together of others, put together."""
    return [
        Template(value.replace("$(", "${").replace(")", "}")).safe_substitute(environment)
        for environment in (container.environment() for container in pod.containers)
        for value in environment.values()
    ]
