"""Prefetched batches come in order, not too far ahead, and end with their consumer."""

import threading
import weakref
from collections.abc import Iterator
from operator import attrgetter

import pytest
from etl.steps.batches import BATCH_BYTES
from etl.steps.prefetch import prefetch
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars, get_contextvars


def test_items_come_in_their_order() -> None:
    with prefetch(range(1000)) as items:
        assert list(items) == list(range(1000))


def test_no_more_than_a_few_are_made_ahead() -> None:
    made: list[int] = []
    third = threading.Event()

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                third.set()
            yield number

    with prefetch(numbers()) as items:
        assert next(items) == 0
        assert third.wait(10)
    # One was taken, two wait, and one is in hand.
    assert made == [0, 1, 2, 3]


def test_what_goes_wrong_is_raised_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    taken: list[int] = []
    with pytest.raises(ValueError, match="broken"), prefetch(broken()) as items:
        taken.extend(items)
    with prefetch(broken()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken"):
            next(items)


def test_the_thread_ends_with_the_block() -> None:
    with prefetch(range(1000)) as items:
        next(items)
    assert [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"] == []


def test_lines_logged_on_the_way_are_bound_alike() -> None:
    with bound_contextvars(pipeline="orders"), prefetch(iter(get_contextvars, None)) as items:
        assert next(items) == {"pipeline": "orders"}


class Sized:
    """An item that knows its bytes, as a batch does."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


@settings(max_examples=50)
@given(st.lists(st.sampled_from([1, BATCH_BYTES, 100 * BATCH_BYTES]), max_size=20))
def test_nothing_is_made_while_a_large_item_waits_or_is_in_use(sizes: list[int]) -> None:
    alive: weakref.WeakSet[Sized] = weakref.WeakSet()
    most = 0

    def make(size: int) -> Sized:
        nonlocal most
        most = max(most, sum(item.nbytes for item in alive))
        item = Sized(size)
        alive.add(item)
        return item

    with prefetch(map(make, sizes)) as items:
        assert list(map(attrgetter("nbytes"), items)) == sizes
    assert most <= 4 * BATCH_BYTES
