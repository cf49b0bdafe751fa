"""A guard against getting slower: ratios within one run, never times, so that the pace of the machine does not count.

`make bench` measures the same and more, at sizes that say more.
"""

from collections.abc import Iterator

import pytest

from tests.bench.speed.contenders import BY_NAME, COPY, NAIVE, OURS
from tests.bench.speed.figures import Run, Series, growth, least_ratio, speed_ratio, told
from tests.bench.speed.measuring import Bench, run_bench
from tests.bench.speed.tables import NARROW

ROWS, MANY, FEW = 80_000, 320_000, 2_000
ROUNDS = 3
LEAST_OF_LIMIT = 0.3
"""Half of the factor that `make bench` claims at a million rows: here the process's start still counts."""
LEAST_OF_NAIVE = 10
MOST_GROWTH = 1.5
Measured = dict[tuple[str, int], Series]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with run_bench(tmp_path_factory.mktemp("speed")) as made:
        yield made


@pytest.fixture(scope="module")
def measured(bench: Bench) -> Measured:
    """A few runs of each, in turn; and the start of the script, which is taken off its time."""

    def run(name: str, rows: int) -> Run:
        return bench.measure(BY_NAME[name], bench.table(NARROW, rows))

    wanted = [(OURS, MANY), (COPY, MANY), (OURS, ROWS), (NAIVE, FEW)]
    runs: dict[tuple[str, int], list[Run]] = {each: [] for each in wanted}
    for number in range(ROUNDS):
        for each in wanted if number % 2 == 0 else reversed(wanted):
            runs[each].append(run(*each))
    start = run(NAIVE, 1)
    return {
        (name, rows): Series(
            contender=name, table=NARROW.name, rows=rows, moved=rows, runs=found, start=start if name == NAIVE else None
        )
        for (name, rows), found in runs.items()
    }


def test_it_is_a_good_part_of_the_raw_limit_and_many_times_the_naive_script(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = measured[OURS, MANY]
    of_limit, of_naive = speed_ratio(ours, measured[COPY, MANY]), least_ratio(ours, measured[NAIVE, FEW])
    with capsys.disabled():
        print(f"\n{MANY:,} rows: {told(of_limit)} of bulk copy only, at least {told(of_naive)} times the naive script")
    assert of_limit.median >= LEAST_OF_LIMIT, measured
    assert of_naive.median >= LEAST_OF_NAIVE, measured


def test_time_grows_linearly(measured: Measured) -> None:
    few, many = measured[OURS, ROWS], measured[OURS, MANY]
    assert growth(few, many).median <= MOST_GROWTH, measured
    # The same for its CPU time, which other load on the machine does not increase.
    assert many.cpu_of_a_million() <= MOST_GROWTH * few.cpu_of_a_million()
