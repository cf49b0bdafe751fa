"""The outcome of a run: its audit rows, whether they add up, and as a table for the log."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from etl.model.pipeline import Pipeline
from etl.model.window import KEYS, Partition, fingerprint

LATER_COUNTS = ("deleted", "marked", "adjusted")
"""Row counts that earlier versions did not have: null in their audit rows, and 0 here."""
COUNTS = ("extracted", "kept", "dropped", "rejected", "inserted", "updated", "unchanged", "standing", *LATER_COUNTS)
"""Row counts of an audit row. `standing`: kept rows that are in the sink at their version or a newer one.

`deleted` and `marked`: rows of the sink that the source does not have any more. `adjusted`: kept rows of which a value
was changed, as the pipeline says.
"""
LOG_COUNTS = ("inserts", "updates", "deletes", "truncates", "images", "kept", "superseded", "applied")
"""Counts of a window of the write-ahead log: its changes, then their images, those kept, and the rows applied."""
_SUMS = (
    ("extracted", ("kept", "dropped", "rejected")),
    ("kept", ("inserted", "updated", "unchanged")),
    ("kept", ("standing",)),
)
_SUMS_OF_KEYS = _SUMS[:2]
_OF_THE_SINK = ("inserted", "updated", *LATER_COUNTS)
"""Counts of a partition of keys that count in the run's sums; the others are of keys, and not of rows that move."""

Audit = dict[str, int]
"""Row counts of a partition by name, as in COUNTS."""


class Problem(NamedTuple):
    """A failed check: the difference in rows, and a sentence."""

    rows: int
    text: str


def select_audits(pipeline: Pipeline, planned: list[Partition], rows: Iterable[Sequence[Any]]) -> dict[str, Audit]:
    """The counts of each planned partition that was loaded, by partition; those of an earlier plan are excluded.

    Each of `rows` is partition, fingerprint, and the counts.
    """
    found = {(row[0], row[1]): dict(zip(COUNTS, (int(each or 0) for each in row[2:]), strict=True)) for row in rows}
    loaded = {partition.id: found.get((partition.id, fingerprint(pipeline, partition))) for partition in planned}
    return {name: audit for name, audit in loaded.items() if audit is not None}


def check_audit(pipeline: Pipeline, planned: list[Partition], audits: dict[str, Audit]) -> list[Problem]:
    """Partitions that were not loaded as planned, counts that do not add up, and too many rejects."""
    problems = [
        Problem(
            partition.expected_rows or 1,
            f"Partition {partition.id} was not loaded as it was planned: clear its tasks.",
        )
        for partition in planned
        if partition.id not in audits
    ]
    for name, audit in audits.items():
        for whole, parts in _SUMS_OF_KEYS if name == KEYS else _SUMS:
            difference = abs(audit[whole] - sum(audit[part] for part in parts))
            if difference:
                sum_ = " + ".join(f"{part} {audit[part]}" for part in parts)
                problems.append(Problem(difference, f"Partition {name}: {whole} {audit[whole]} is not {sum_}."))
    # What is rejected when keys are compared was rejected when its rows were loaded.
    rejected = sum(audit["rejected"] for name, audit in audits.items() if name != KEYS)
    above = rejected - pipeline.tolerated_rejects
    if above > 0:
        text = f"{rejected} rows of the run were rejected, {pipeline.tolerated_rejects} are tolerated."
        problems.append(Problem(above, text))
    return problems


def total(audits: dict[str, Audit]) -> Audit:
    """The sums of all partitions."""
    return {
        name: sum(audit[name] for place, audit in audits.items() if place != KEYS or name in _OF_THE_SINK)
        for name in COUNTS
    }


def as_table(audits: dict[str, Audit]) -> str:
    """The audit rows and their sum as aligned text, without what only some pipelines count."""
    rows = {**audits, "all": total(audits)}
    counts = [name for name in COUNTS if name not in LATER_COUNTS or rows["all"][name]]
    lines = [
        ("partition", *counts),
        *((name, *(str(audit[count]) for count in counts)) for name, audit in rows.items()),
    ]
    return "\n".join("  ".join(f"{cell:>10}" for cell in line) for line in lines)
