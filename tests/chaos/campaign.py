"""Injects the faults of a seed, some of them at the same time, and logs them."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.schedule import Drawn, draw
from tests.faults import Fault
from tests.faults.system import SystemUnderTest

PATIENCE = 25.0
"""Seconds that a fault waits for a target; after that the next one is drawn, and it does not count."""
_MOST_MISSED = 10
"""The limit of consecutive faults without a target: beyond it no run makes progress."""
LEFT_ALONE_AFTER = 300.0
"""Seconds of a run after which no fault is injected until it has ended."""
_GAP = 9.0
"""Seconds to the next fault, at most."""


@dataclass(frozen=True)
class Injected:
    """An injected fault."""

    number: int
    at: str
    fault: str
    target: str
    lasts: float
    """Seconds until it was healed; 0 for one that needs no healing."""
    run_for: float | None
    """Seconds that the present run had been under way; None between two runs."""


class Campaign:
    """Injects faults into a system. `check` is called all the time, and raises on a violation."""

    def __init__(
        self,
        system: SystemUnderTest,
        faults: dict[str, Fault],
        under_way_since: Callable[[], float | None],
        check: Callable[[], None],
        log: Path,
    ) -> None:
        self._system = system
        self._faults = faults
        self._under_way_since = under_way_since
        self._check = check
        self._log = log
        self._active: dict[str, tuple[float, Fault]] = {}
        self.injected: list[Injected] = []

    def run(self, seed: int, count: int) -> list[Injected]:
        """Inject so many faults. Those still active at the end, or at a failure, are healed."""
        began, missed = time.monotonic(), 0
        try:
            for drawn in draw(seed, sorted(self._faults)):
                if len(self.injected) == count:
                    break
                before = len(self.injected)
                did = self._do(drawn)
                missed = 0 if len(self.injected) > before else missed + 1
                assert missed <= _MOST_MISSED, f"{missed} faults in a row had nothing to hit; the last: {did}"
                passed = time.monotonic() - began
                print(
                    f"  {len(self.injected):3}/{count}  {passed // 60:2.0f}:{passed % 60:02.0f}  {did}",
                    flush=True,
                )
                self._wait(_GAP * drawn.lasts)
        finally:
            self.heal()
        return self.injected

    def heal(self) -> None:
        """Heal all active faults now."""
        for place in list(self._active):
            self._heal(place)

    def _do(self, drawn: Drawn) -> str:
        """Inject one fault; returns a description."""
        fault = self._faults[drawn.fault]
        self._wait_for_the_run()
        target = self._await_target(fault, drawn)
        if target is None:
            return f"{fault.name}: no target in time"
        self._heal(fault.place)
        lasts = round(fault.longest * (0.3 + 0.7 * drawn.lasts), 1)
        try:
            fault.inject(self._system, target)
        except OSError as error:
            return f"{fault.name}: not injected, {error}"
        finally:
            if fault.longest:
                self._active[fault.place] = time.monotonic() + lasts, fault
        since = self._under_way_since()
        injected = Injected(
            number=drawn.number,
            at=f"{datetime.now(UTC):%H:%M:%S.%f}",
            fault=fault.name,
            target=str(target),
            lasts=lasts,
            run_for=None if since is None else round(time.monotonic() - since, 1),
        )
        self.injected.append(injected)
        with self._log.open("a") as log:
            log.write(json.dumps(asdict(injected)) + "\n")
        return f"{fault.name}: {target}{f', for {lasts} s' if lasts else ''}"

    def _await_target(self, fault: Fault, drawn: Drawn) -> Any:
        """Wait until the fault has targets, and a little more; None if it has none in time."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if fault.targets(self._system):
                self._wait(drawn.delay)
                if targets := fault.targets(self._system):
                    return _chosen(targets, drawn.target)
            self._wait(0.1)
        return None

    def _wait_for_the_run(self) -> None:
        """If a run has been disturbed for long, wait until it has ended."""
        while (since := self._under_way_since()) is not None and time.monotonic() - since > LEFT_ALONE_AFTER:
            self._wait(1)

    def _wait(self, seconds: float) -> None:
        """Wait, and heal the faults that are due."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            for place in [place for place, (due, _) in self._active.items() if due <= now]:
                self._heal(place)
            self._check()
            if now >= until:
                return
            time.sleep(min(0.1, until - now))

    def _heal(self, place: str) -> None:
        if place in self._active:
            _, fault = self._active.pop(place)
            fault.heal(self._system)


def _chosen(targets: Sequence[Any], which: float) -> Any:
    return targets[min(int(which * len(targets)), len(targets) - 1)]
