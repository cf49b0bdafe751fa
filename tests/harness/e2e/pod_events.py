"""Events of pods from a watch, which is restarted when the API server ends it, as it does after half an hour."""

import json
import subprocess
import time
from collections.abc import Callable
from threading import Thread
from typing import Any

from dev.sandbox.process import die_with_parent


class PodEvents(Thread):
    """Passes on the events of one namespace. `begin` is called before each watch, which sends all pods again."""

    def __init__(
        self,
        namespace: str,
        environment: dict[str, str],
        take: Callable[[dict[str, Any]], None],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name=f"pods of {namespace}", daemon=True)
        self._command = [
            *("kubectl", "--namespace", namespace, "get", "pods", "--watch", "--output-watch-events", "--output=json")
        ]
        self._environment, self._take, self._begin = environment, take, begin
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self) -> None:
        while not self._stopped:
            self._begin()
            with subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent
            ) as self._process:
                for line in self._process.stdout or ():
                    event = json.loads(line) if line.endswith("\n") else {}  # cut off where the watch was ended
                    if event.get("object", {}).get("kind") == "Pod":
                        self._take(event)
            time.sleep(0.5)

    def stop(self) -> None:
        """End it."""
        self._stopped = True
        if self._process:
            self._process.terminate()
        self.join(timeout=10)
