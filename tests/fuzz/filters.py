"""Filters by chance, each decided by Postgres, DuckDB and SQL Server's documented rules: `make fuzz`.

`python -m tests.fuzz.filters PAIRS SEED` goes on until that many pairs of filter and row were compared. It ends in an
error that shows the smallest filter on which they disagree.
"""

import random
import sys
import warnings

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from dev.sandbox.postgres import run_postgres
from tests.harness.filter_databases import FilterDatabases, filter_databases
from tests.harness.filters import filters, mutated

PAIRS = 100_000
_AT_ONCE = 200


def compare(databases: FilterDatabases, pairs: int, first: int) -> None:
    """Compare until there are so many pairs; the first seed repeats a run."""
    for number in range(first, first + pairs):

        @seed(number)
        @settings(max_examples=_AT_ONCE, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(text=st.one_of(filters, filters, mutated()))
        def few(text: str) -> None:
            databases.compare(text)

        few()
        if databases.pairs >= pairs:
            return


def main() -> None:
    """Compare, and print how much was compared."""
    warnings.simplefilter("ignore", HypothesisWarning)
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    first = random.randrange(10**6) if len(sys.argv) < 3 else int(sys.argv[2])
    print(f"Filters, seed {first}: comparing Postgres, DuckDB and SQL Server's rules …", flush=True)
    with run_postgres() as server, filter_databases(server) as databases:
        compare(databases, pairs, first)
        print(
            f"{databases.pairs:,} pairs of filter and row were decided alike: {databases.filters:,} filters,"
            f" {databases.as_written:,} of them by Postgres as written; {databases.refused:,} more were refused."
        )


if __name__ == "__main__":
    main()
