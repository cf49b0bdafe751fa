"""The tables of docs/observability.md, as data."""

import re
from dataclasses import dataclass

from dev.sandbox.stack import ROOT

DOCUMENT = ROOT / "docs" / "observability.md"
_ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*) \| (?P<seen>[^|]*) \| (?P<told>[^|]+) \|$"
)


@dataclass(frozen=True)
class Documented:
    """A row: a metric, its labels, and when it is seen (empty: after every run)."""

    name: str
    kind: str
    labels: frozenset[str]
    seen: str

    @property
    def is_always_sent(self) -> bool:
        """Whether a run of the orders, a failing one and a waiting one must show it."""
        return not self.seen


def documented_metrics() -> list[Documented]:
    """All rows of all tables of metrics. Raises ValueError for a row that cannot be read."""
    rows, is_table = [], False
    for line in DOCUMENT.read_text().splitlines():
        is_table = line.startswith("| metric |") or (is_table and line.startswith("|"))
        if not is_table or not line.startswith("| `"):
            continue
        found = _ROW.match(line)
        if found is None:
            raise ValueError(f"{DOCUMENT.name}: not a row of a metric: {line}")
        labels = frozenset(re.findall(r"`(\w+)`", found["labels"]))
        rows.append(Documented(found["name"], found["kind"], labels, found["seen"].strip()))
    return rows
