"""`scripts/doctor.sh`, as the tests ask it."""

import json
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from tests.harness.e2e.deployment import Deployment

OF_THE_MACHINE = {"volume-nearly-full", "alert-firing", "node-under-pressure"}
"""Findings that the machine's disk may cause when it is nearly full."""


@dataclass(frozen=True)
class Diagnosis:
    """The doctor's report: its exit code, and the causes by name."""

    code: int
    causes: dict[str, list[dict[str, Any]]]

    def found(self, name: str, where: str) -> dict[str, Any] | None:
        """The cause of that name and place."""
        return next((one for one in self.causes.get(name, []) if one["where"].startswith(where)), None)


def look(deployment: Deployment) -> Diagnosis:
    """Ask the doctor."""
    began = time.monotonic()
    command = [str(deployment.checkout / "scripts" / "doctor.sh"), "--json"]
    ran = subprocess.run(command, env=deployment.environment, capture_output=True, text=True, check=False)
    print(f"{ran.stdout}{ran.stderr}doctor.sh took {time.monotonic() - began:.0f} s", flush=True)
    assert ran.stdout, f"doctor.sh said nothing and ended with {ran.returncode}: {ran.stderr}"
    causes: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(ran.stdout)["wrong"]:
        causes.setdefault(one["name"], []).append(one)
    return Diagnosis(ran.returncode, causes)
