"""Waiting for a condition, instead of for a time."""

import time
from collections.abc import Callable
from typing import Any


def came_true(condition: Callable[[], Any], seconds: float, pause: float = 1) -> bool:
    """Wait until a condition holds, or so long; whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def wait_for(condition: Callable[[], Any], seconds: float = 60, pause: float = 0.1) -> None:
    """Wait until a condition holds. Fails the test where it does not in time."""
    assert came_true(condition, seconds, pause)
