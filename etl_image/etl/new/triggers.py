"""Evidence that a column grows with every change: a trigger that sets it before each UPDATE of a row."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CLOCK = (
    r"(?:(?:now|clock_timestamp|statement_timestamp|transaction_timestamp)\(\)"
    r"|(?:current_timestamp|localtimestamp)(?:\(\d\))?)"
)
_SET = re.compile(
    r"\bnew\s*\.\s*(?:\"(?P<quoted>(?:[^\"]|\"\")+)\"|(?P<name>\w+))\s*:?=\s*(?P<value>[^;]+);", re.IGNORECASE
)
# Where a value is one of these, it is the time of the change, or later than the value before.
_GROWS = re.compile(rf"(?:{_CLOCK}|greatest\({_CLOCK},.+\))", re.IGNORECASE | re.DOTALL)
_IN_UTC = re.compile(rf"(?:timezone\('utc',{_CLOCK}\)|\(?{_CLOCK}attimezone'utc'\)?)", re.IGNORECASE)
# With one of these a row could be changed without it.
_MAY_SKIP = re.compile(
    r"\b(?:if|case|loop|while|foreach|exception|execute|goto|exit|return\s+(?!\s*new\b)|into\s+new|new\s*:?=)",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Trigger:
    """A trigger for each row before UPDATE. `always`: it has neither WHEN nor a list of columns."""

    name: str
    function: str
    language: str
    body: str
    arguments: str
    always: bool


@dataclass(frozen=True)
class Evidence:
    """The trigger that sets a column before each UPDATE, and whether it writes UTC into a column without a zone."""

    trigger: str
    in_utc: bool = False


def maintained(triggers: Iterable[Trigger]) -> dict[str, Evidence]:
    """The columns that a trigger sets to the time at every UPDATE of a row, whatever it changes.

    A column that two triggers set is left out: the second could put the first one's value back.
    """
    found: dict[str, Evidence] = {}
    set_by: dict[str, int] = {}
    for trigger in triggers:
        for column, evidence in _set_by(trigger):
            set_by[column] = set_by.get(column, 0) + 1
            if evidence:
                found[column] = evidence
    return {column: evidence for column, evidence in found.items() if set_by[column] == 1}


def _set_by(trigger: Trigger) -> list[tuple[str, Evidence | None]]:
    """The columns that a trigger sets, each with evidence if it always sets it to the time."""
    if trigger.function == "moddatetime" and trigger.language == "c":  # of the extension
        column = trigger.arguments.removesuffix("\\000")
        return [(column, Evidence(trigger.name) if trigger.always else None)]
    if trigger.language != "plpgsql":
        return []
    body = _COMMENT.sub(" ", trigger.body)
    is_sure = trigger.always and not _MAY_SKIP.search(body)
    return [(_name(match), _evidence(trigger, match["value"]) if is_sure else None) for match in _SET.finditer(body)]


def _name(match: "re.Match[str]") -> str:
    """A column as the catalogue has it: folded unless it is quoted."""
    return match["quoted"].replace('""', '"') if match["quoted"] else match["name"].lower()


def _evidence(trigger: Trigger, value: str) -> Evidence | None:
    compact = re.sub(r"\s+|pg_catalog\.|::timestamptz?$", "", value.strip())
    if _GROWS.fullmatch(compact):
        return Evidence(trigger.name)
    return Evidence(trigger.name, in_utc=True) if _IN_UTC.fullmatch(compact) else None
