"""What of many words tells the reason: of a log, and of what a command says that failed."""

import json
import re
from typing import Any

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_BAD = ("error", "critical", "fatal")


def last_words(log: str) -> str:
    """The last line that is an error's, else the last one; of a JSON line what it says."""
    lines = [_read(_COLOURS.sub("", line)) for line in log.splitlines() if line.strip()]
    errors = [text for text, level in lines if level in _BAD]
    texts = [text for text, _ in lines]
    return short((errors or texts or [""])[-1])


def reason(error: Exception) -> str:
    """What a command said that failed, without the command."""
    text = str(error).strip()
    return (text.partition("` failed: ")[2] or text or type(error).__name__).splitlines()[-1]


def short(text: str, most: int = 300) -> str:
    """A text in one line, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]} …"


def _read(line: str) -> tuple[str, str]:
    """What a line says, and its level where it tells one."""
    try:
        told: Any = json.loads(line)
    except ValueError:
        return line.strip(), ""
    if not isinstance(told, dict):
        return str(told), ""
    text = next((str(told[name]) for name in ("event", "message", "msg") if told.get(name)), line)
    problem = told.get("error_detail") or told.get("exception")
    # Airflow keeps what was raised apart from the line that says that something was.
    if isinstance(problem, list) and problem and isinstance(problem[0], dict) and problem[0].get("exc_value"):
        text = f"{text}: {problem[0]['exc_value']}"
    return text, str(told.get("level", "")).lower()
