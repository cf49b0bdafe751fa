"""Severity of a vulnerability in records of the OSV database: a CVSS score from 0 to 10."""

from collections.abc import Iterator
from typing import Any

from cvss import CVSS2, CVSS3, CVSS4, CVSSError

LEVELS = {"low": 0.1, "medium": 4.0, "high": 7.0, "critical": 9.0}
"""Lowest score of each level (https://www.first.org/cvss)."""
_CALCULATIONS = {"CVSS_V2": CVSS2, "CVSS_V3": CVSS3, "CVSS_V4": CVSS4}
# Words of GitHub and Debian in the place of a score: they count as the lowest score of the level.
_WORDS = {**LEVELS, "moderate": LEVELS["medium"]}


def score_of(record: dict[str, Any], affected: dict[str, Any]) -> float | None:
    """The highest score of a record, else that of its word; None if it has neither."""
    scores = list(_scores([*record.get("severity", []), *affected.get("severity", [])]))
    if scores:
        return max(scores)
    words = (
        record.get("database_specific", {}).get("severity"),
        affected.get("database_specific", {}).get("severity"),
        affected.get("ecosystem_specific", {}).get("urgency"),
    )
    return max((_WORDS[word] for word in map(_plain, words) if word in _WORDS), default=None)


def level_of(score: float | None) -> str:
    """The level of a score."""
    if score is None:
        return "unknown"
    return next((level for level, start in reversed(LEVELS.items()) if score >= start), "none")


def _scores(severities: list[dict[str, str]]) -> Iterator[float]:
    for each in severities:
        if each.get("type") in _CALCULATIONS:
            try:
                yield float(_CALCULATIONS[each["type"]](each["score"]).scores()[0])
            except CVSSError:
                continue


def _plain(word: object) -> str:
    # Debian marks ratings that its security team has not reviewed with a star.
    return str(word).lower().rstrip("*")
