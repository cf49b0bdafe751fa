"""The line of a log, or of the output of a failed command, that gives the reason."""

import json
import re
from typing import Any

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_BAD = ("error", "critical", "fatal")


def last_message(log: str) -> str:
    """The message of the last line with an error level, else of the last line."""
    lines = [_read(_COLOURS.sub("", line)) for line in log.splitlines() if line.strip()]
    errors = [text for text, level in lines if level in _BAD]
    texts = [text for text, _ in lines]
    return shorten((errors or texts or [""])[-1])


def reason(error: Exception) -> str:
    """The last line of an error, without the command that failed."""
    text = str(error).strip()
    return (text.partition("` failed: ")[2] or text or type(error).__name__).splitlines()[-1]


def shorten(text: str, most: int = 300) -> str:
    """A text as one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]} …"


def _read(line: str) -> tuple[str, str]:
    """The message of a line, and its level if it has one."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return line.strip(), ""
    if not isinstance(entry, dict):
        return str(entry), ""
    text = next((str(entry[name]) for name in ("event", "message", "msg") if entry.get(name)), line)
    problem = entry.get("error_detail") or entry.get("exception")
    # Airflow keeps the exception apart from the message.
    if isinstance(problem, list) and problem and isinstance(problem[0], dict) and problem[0].get("exc_value"):
        text = f"{text}: {problem[0]['exc_value']}"
    return text, str(entry.get("level", "")).lower()
