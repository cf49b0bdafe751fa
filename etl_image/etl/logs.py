"""Logs: one JSON object a line in a pod, aligned text on a terminal; secrets redacted in both."""

import logging
import sys
from collections.abc import Collection, Iterable

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure_logs(secrets: Collection[str]) -> None:
    """Set up structlog for this process; no line shows a text that is in `secrets`, now or later."""
    terminal = sys.stderr.isatty()

    def redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {name: redact(value, secrets) if isinstance(value, str) else value for name, value in event.items()}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact_event,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced by ***."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
