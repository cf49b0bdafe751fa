"""A port of loopback that kubectl leads to a Service of the deployment."""

import os
import re
import subprocess
import tempfile
import time
from typing import Self

from ops.cluster.kubectl import NAMESPACE, Kubectl

_START_SECONDS = 20.0


class ForwardedPort:
    """The port while it is open. Also a context manager."""

    def __init__(self, kubectl: Kubectl, service: str, port: int, namespace: str = NAMESPACE) -> None:
        """Start `kubectl port-forward` on a free port. Raises OSError where it does not start."""
        command = [*kubectl.command, "--namespace", namespace, "port-forward", "--address=127.0.0.1"]
        # To a file: it says a line for each connection, and nobody would empty a pipe.
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                [*command, f"service/{service}", f":{port}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            deadline, said, found = time.monotonic() + _START_SECONDS, "", None
            while not found and self.is_open and time.monotonic() < deadline:
                time.sleep(0.1)
                said = os.pread(output.fileno(), 4096, 0).decode(errors="replace")
                found = re.search(r"127\.0\.0\.1:(\d+) ", said)
        if not found:
            self.close()
            raise OSError(f"kubectl port-forward says: {said.strip() or 'nothing'}")
        self.number = int(found[1])

    @property
    def is_open(self) -> bool:
        """Whether it still leads there: it ends with the pod that it led to."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
