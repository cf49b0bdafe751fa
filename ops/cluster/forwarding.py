"""A loopback port that kubectl forwards to a Service."""

import os
import re
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from typing import Self

LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of forwarded ports: a proxy of the environment does not reach this machine."""
_START_SECONDS = 20.0


class ForwardedPort:
    """A forwarded port while it is open. Also a context manager."""

    def __init__(self, kubectl: Sequence[str], namespace: str, service: str, port: int) -> None:
        """Start `kubectl port-forward` on a free port. Raises OSError if it does not start."""
        command = [*kubectl, "--namespace", namespace, "port-forward", "--address=127.0.0.1"]
        # To a file: it prints a line for each connection, which would fill a pipe.
        with tempfile.TemporaryFile() as file:
            self._process = subprocess.Popen(
                [*command, f"service/{service}", f":{port}"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            deadline, output, found = time.monotonic() + _START_SECONDS, "", None
            while not found and self.is_open and time.monotonic() < deadline:
                time.sleep(0.1)
                output = os.pread(file.fileno(), 4096, 0).decode(errors="replace")
                found = re.search(r"127\.0\.0\.1:(\d+) ", output)
        if not found:
            self.close()
            raise OSError(f"kubectl port-forward says: {output.strip() or 'nothing'}")
        self.number = int(found[1])

    @property
    def is_open(self) -> bool:
        """Whether the process still runs: it ends with the pod."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
