"""However long a transaction is open, and over however many runs, its rows arrive when it has ended."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from etl.model.planning import choose_window
from etl.model.settled import settle
from etl.model.version_kind import day_of
from etl.model.window import Settled
from hypothesis import example, given
from hypothesis import strategies as st

from dev.sandbox.pipelines import ORDERS, make

KINDS = {
    "time": make(ORDERS, look_back=0),
    "day": make(ORDERS, columns={**ORDERS["columns"], "updated_at": "date"}, look_back=0),
    "number": make(ORDERS, columns={**ORDERS["columns"], "updated_at": "bigint"}, look_back=0),
}


class Source:
    """Transactions that write rows, and runs that read them, one after the other; no run looks back more than it must.

    Between them is a second, and where versions are days, five hours. A row is its version and its number.
    """

    def __init__(self, kind: str) -> None:
        self.pipeline, self.kind = KINDS[kind], kind
        self.step = timedelta(hours=5) if kind == "day" else timedelta(seconds=1)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.rows = 0
        self.next_id = 700
        self.open: dict[int, list[tuple[Any, int]]] = {}
        self.committed: list[tuple[Any, int]] = [self.row()]
        self.watermark: Any = None
        self.left: Settled | None = None
        self.read: set[tuple[Any, int]] = set()

    def row(self) -> tuple[Any, int]:
        self.rows += 1
        return {"time": self.now, "day": day_of(self.now, None), "number": self.rows}[self.kind], self.rows

    def begin(self, _: int) -> None:
        self.open[self.next_id] = [self.row()]
        self.next_id += 1

    def write(self, number: int) -> None:
        if self.open:
            sorted(self.open.items())[number % len(self.open)][1].append(self.row())

    def change(self, _: int) -> None:
        self.next_id += 1
        self.committed.append(self.row())

    def commit(self, number: int) -> None:
        if self.open:
            self.committed += self.open.pop(sorted(self.open)[number % len(self.open)])

    def run(self, _: int = 0) -> None:
        begin = self.left.value if self.left else self.watermark
        highest = max(version for version, _ in self.committed)
        end = {"time": self.now, "day": day_of(self.now, None), "number": highest}[self.kind]
        if self.kind == "number" and end == begin:
            return  # plan finds nothing to move
        window = choose_window(self.pipeline, {}, begin, end, self.now if self.kind == "number" else None)
        low = window.low
        found = {row for row in self.committed if (low is None or row[0] > low) and row[0] <= window.high}
        if found:  # otherwise there is nothing to reconcile, and the watermark stays
            snapshot = (min(self.open, default=self.next_id), self.next_id)
            self.left = settle(self.left, begin, window, self.pipeline.reach, snapshot)[0]
            self.watermark = window.high
            self.read |= found


events = st.tuples(st.sampled_from(["begin", "write", "commit", "change", "run"]), st.integers(0, 5))


@pytest.mark.parametrize("kind", KINDS)
@given(history=st.lists(events, max_size=60))
@example(history=[(event, 0) for event in ("begin", "change", "run", "change", "run", "commit", "run")])
def test_every_row_arrives_when_its_transaction_has_ended(kind: str, history: list[tuple[str, int]]) -> None:
    source = Source(kind)
    source.now += source.step
    source.run()
    for what, number in history:
        source.now += source.step
        getattr(source, what)(number)
    while source.open:
        source.commit(0)
    source.now += source.step
    source.run()
    assert source.read == set(source.committed)


@pytest.mark.parametrize("kind", KINDS)
def test_where_no_transaction_is_open_nothing_is_read_again(kind: str) -> None:
    source = Source(kind)
    source.now += source.step
    source.run()
    assert source.left is not None
    assert source.left.value == source.watermark
