"""However long a transaction is open, and over however many runs, its rows arrive when it has ended."""

from datetime import UTC, datetime, timedelta

from etl.model.planning import choose_window
from etl.model.settled import settle
from etl.model.window import Settled
from hypothesis import example, given
from hypothesis import strategies as st

from dev.sandbox.pipelines import ORDERS, make

NONE_BACK = make(ORDERS, look_back=0)


class Source:
    """Transactions that write rows, and runs that read them, one second after the other. No run looks back."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.next_id = 700
        self.open: dict[int, list[datetime]] = {}
        self.committed: list[datetime] = [self.now]
        self.watermark: datetime | None = None
        self.left: Settled | None = None
        self.read: set[datetime] = set()

    def begin(self, _: int) -> None:
        self.open[self.next_id] = [self.now]
        self.next_id += 1

    def write(self, number: int) -> None:
        if self.open:
            sorted(self.open.items())[number % len(self.open)][1].append(self.now)

    def change(self, _: int) -> None:
        self.next_id += 1
        self.committed.append(self.now)

    def commit(self, number: int) -> None:
        if self.open:
            self.committed += self.open.pop(sorted(self.open)[number % len(self.open)])

    def run(self, _: int = 0) -> None:
        begin = self.left.value if self.left else self.watermark
        window = choose_window(NONE_BACK, {}, begin, self.now)
        found = {at for at in self.committed if (window.low is None or at > window.low) and at <= window.high}
        if found:  # otherwise there is nothing to reconcile, and the watermark stays
            snapshot = (min(self.open, default=self.next_id), self.next_id)
            self.left = settle(self.left, begin, window, NONE_BACK.look_back, snapshot)[0]
            self.watermark = window.high
            self.read |= found


events = st.tuples(st.sampled_from(["begin", "write", "commit", "change", "run"]), st.integers(0, 5))


@given(history=st.lists(events, max_size=60))
@example(history=[(event, 0) for event in ("begin", "change", "run", "change", "run", "commit", "run")])
def test_every_row_arrives_when_its_transaction_has_ended(history: list[tuple[str, int]]) -> None:
    source = Source()
    source.now += timedelta(seconds=1)
    source.run()
    for what, number in history:
        source.now += timedelta(seconds=1)
        getattr(source, what)(number)
    while source.open:
        source.commit(0)
    source.now += timedelta(seconds=1)
    source.run()
    assert source.read == set(source.committed)


def test_where_no_transaction_is_open_nothing_is_read_again() -> None:
    source = Source()
    source.now += timedelta(seconds=1)
    source.run()
    assert source.left is not None
    assert source.left.value == source.watermark
