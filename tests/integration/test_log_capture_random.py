"""Random changes of several writers, captured from the write-ahead log, against a history that a trigger writes."""

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.postgres import Postgres, run_postgres
from tests.harness.log_sources import make_slot
from tests.harness.runs import Runs
from tests.harness.tables import table

STATEMENTS = int(os.environ.get("LOG_STATEMENTS", "4000"))
RUNS = max(10, STATEMENTS // 200)
KEYS = 40
REGIONS = ("north", "south")
_MAKE = """
CREATE TABLE t (region varchar(5) NOT NULL, k integer NOT NULL, status varchar(10) NOT NULL, note text, amount
  numeric(10,2), at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (region, k)) PARTITION BY LIST (region);
CREATE TABLE north PARTITION OF t FOR VALUES IN ('north');
CREATE TABLE south PARTITION OF t FOR VALUES IN ('south');
ALTER TABLE north REPLICA IDENTITY FULL;
ALTER TABLE south REPLICA IDENTITY FULL;
CREATE TABLE history (place bigserial, LIKE t);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO history (region, k, status, note, amount, at)
  VALUES (NEW.region, NEW.k, NEW.status, NEW.note, NEW.amount, NEW.at);
  RETURN NULL; END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION remember();
"""


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A server that may be killed."""
    with run_postgres() as server:
        yield server


class Writers:
    """Connections with open transactions, of which one changes something at a time."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self._url, self._chance = url, chance
        self.connect()

    def connect(self) -> None:
        self._connections = [psycopg.connect(self._url, options="-c lock_timeout=20ms") for _ in range(4)]

    def close(self) -> None:
        """Commit or roll back each, and end it."""
        for connection in self._connections:
            with suppress(psycopg.Error):
                (connection.commit if self._chance.random() < 0.5 else connection.rollback)()
            connection.close()

    def write(self, statements: int) -> None:
        for _ in range(statements):
            connection = self._chance.choice(self._connections)
            try:
                connection.execute(*self._statement())
                if self._chance.random() < 0.3:
                    (connection.commit if self._chance.random() < 0.75 else connection.rollback)()
            except (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                connection.rollback()

    def _statement(self) -> tuple[str, list[Any]]:
        chance = self._chance
        where = [chance.choice(REGIONS), chance.randrange(KEYS)]
        status = chance.choice(("new", "confirmed", "shipped", "cancelled"))
        # Random digits do not compress: above 2 kB such a note is stored out of line.
        note = chance.choice((None, "", "short", "".join(chance.choices("0123456789abcdef", k=9000))))
        kind = chance.random()
        if kind < 0.3:
            return "INSERT INTO t VALUES (%s, %s, %s, %s, %s)", [*where, status, note, chance.randrange(10**8) / 100]
        if kind < 0.75:
            # The note is not changed, and so not in the new row that the log has of it.
            return "UPDATE t SET status = %s, at = clock_timestamp() WHERE region = %s AND k = %s", [status, *where]
        if kind < 0.83:
            return "UPDATE t SET k = %s WHERE region = %s AND k = %s", [chance.randrange(KEYS), *where]
        if kind < 0.9:
            return "UPDATE t SET region = %s WHERE region = %s AND k = %s", [chance.choice(REGIONS), *where]
        if kind < 0.995:
            return "DELETE FROM t WHERE region = %s AND k = %s", where
        return "TRUNCATE t", []


def crashing_run(runs: Runs, name: str, chance: random.Random) -> None:
    """A run of which each step may be done twice, or the last ones never; it is read in three steps or in one."""
    partitions = runs.plan()
    ways: list[tuple[str, ...]] = [("extract", "filter", "load"), ("run",)]
    for text in partitions:
        steps = list(chance.choice(ways))
        for step in [*steps[: chance.randint(0, len(steps))], *steps]:
            runs.made.run(name, Partition.model_validate_json(text), step)
            if chance.random() < 0.1:
                return
    if partitions and chance.random() < 0.7:
        runs.reconcile(name, partitions)
        if chance.random() < 0.2:
            runs.steps(name, partitions, "run")
            runs.reconcile(name, partitions)


def expected(made: PipelineFixture) -> dict[Any, tuple[Any, ...]]:
    """By key the last confirmed row of the history; the order of changes of one key is that of their commits."""
    query = (
        "SELECT DISTINCT ON (region, k) region, k, status, note, amount, at AT TIME ZONE 'UTC' FROM history"
        " WHERE status = 'confirmed' ORDER BY region, k, place DESC"
    )
    with psycopg.connect(made.source_url) as connection:
        return {row[:2]: tuple(row) for row in connection.execute(query).fetchall()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
def test_the_sink_is_what_the_history_says_whatever_is_written_and_whichever_step_crashes(
    own_postgres: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    definition: dict[str, Any] = {
        "columns": {
            "region": "varchar(5)", "k": "integer", "status": "varchar(10)", "note": "text null",
            "amount": "numeric(10,2) null", "at": "timestamptz",
        },
        "key": ["region", "k"], "version": None, "filter": "status = 'confirmed'", "capture": "log",
    }  # fmt: skip
    with table(own_postgres, sink_url, tmp_path, **definition) as made:
        made.change("DROP TABLE t")
        for statement in filter(
            None, _MAKE.replace("$$ BEGIN", "$_$ BEGIN").replace("END $$", "END $_$").split(";\n\n")
        ):
            with psycopg.connect(made.source_url, autocommit=True) as connection:
                connection.execute(statement.encode())
        name = made.pipeline.publication_name
        made.change(f'CREATE PUBLICATION "{name}" FOR TABLE t WITH (publish_via_partition_root)')
        make_slot(made)
        runs, writers = Runs(made, monkeypatch), Writers(made.source_url, chance)
        for number in range(RUNS):
            writers.write(STATEMENTS // RUNS)
            crashing_run(runs, f"run {number}", chance)
            if number % (RUNS // 3) == 2:
                assert own_postgres.server is not None
                own_postgres.server.crash()
                own_postgres.server.start()
                writers.close()
                writers.connect()
        writers.close()
        runs.run("last but one")
        for name in ("last", "after"):
            if partitions := runs.plan():
                runs.steps(name, partitions)
                runs.reconcile(name, partitions)
        rows = made.sink_rows()
        assert len(rows) > KEYS // 2
        assert rows == expected(made)
        made.change("SELECT pg_drop_replication_slot(%s)", made.pipeline.slot_name)
