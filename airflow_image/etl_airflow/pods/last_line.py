"""Last line of a failed task's log: the error sentence, with what failed, where, and what to do."""

import logging
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException

log = logging.getLogger(__name__)


def say_why(context: Any) -> None:
    """Log the failed task's exception once more as one line; a callback of tasks, for failures and retries.

    Airflow logs the exception with its stack frames, and runs callbacks after that.
    """
    exception = context.get("exception")
    if not isinstance(exception, BaseException):  # the task was killed, and this is another process
        return
    # Airflow has opened a group before, which its UI shows folded.
    log.info("::endgroup::")
    log.error("%s", sentence(exception))


def sentence(exception: BaseException) -> str:
    """An exception as one line; with its class name, unless it is an AirflowException."""
    text = " ".join(str(exception).split())
    return text if text and isinstance(exception, AirflowException) else f"{type(exception).__name__}: {text}"
