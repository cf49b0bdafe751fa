"""Waiting for a condition."""

import time
from collections.abc import Callable
from typing import Any


def came_true(condition: Callable[[], Any], seconds: float, pause: float = 1) -> bool:
    """Wait until a condition holds, at most for `seconds`; whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def wait_for(condition: Callable[[], Any], seconds: float = 60, pause: float = 0.1) -> None:
    """Wait until a condition holds. Raises AssertionError on a timeout."""
    assert came_true(condition, seconds, pause)
