"""`etl verify`: every planted difference is found and named, and nothing else is."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pyarrow.parquet as pq
import pytest
from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline
from etl.model.verification import FAULTS, MODES
from etl.sqlserver.sql import quote_text, quote_time
from etl.verify import compare as verify_compare
from etl.verify import confirm
from etl.verify.command import compare
from etl.verify.outcome import Outcome
from etl.verify.scope import Mode

from dev.sandbox.pipeline_fixture import PipelineFixture, as_json, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs
from tests.harness.tables import table

SEED = int(os.environ.get("SEED") or 22)


@pytest.fixture
def made(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as site:
        yield site


@pytest.fixture
def runs(made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(made, monkeypatch)


def found(made: PipelineFixture, mode: Mode) -> dict[str, int]:
    """The classes that have rows."""
    outcome = compare(made.settings, made.pipeline, "verify", mode)
    assert outcome.source_rows == len(made.source_rows(made.pipeline.filter))
    assert outcome.sink_rows == len(made.sink_rows())
    return {name: count for name, count in outcome.classes.items() if count}


@pytest.mark.parametrize("mode", ["quick", "deep"])
def test_after_a_run_nothing_differs(made: PipelineFixture, runs: Runs, mode: Mode) -> None:
    runs.run("first")
    assert found(made, mode) == {}


def plant(made: PipelineFixture) -> dict[str, list[int]]:
    """Differences of every class, in orders of which each has one: the keys by class."""
    keys = iter(key for (key,) in sorted(made.sink_rows()))
    planted = {
        name: [next(keys) for _ in range(3)]
        for name in ("missing", "older", "newer", "unmatched", "deleted", "pending")
    }
    rows = made.sink_rows()
    names = list(made.pipeline.columns)

    def beside(key: int, name: str) -> Any:
        return rows[key,][names.index(name)]

    changes: list[Callable[[int], str]] = [
        lambda _: "[note] = N''",
        lambda key: f"[amount] = {beside(key, 'amount') + Decimal('0.01')}",
        lambda key: f"[customer] = {quote_text(beside(key, 'customer').swapcase())}",
        lambda key: f"[customer] = {quote_text(beside(key, 'customer') + ' ')}",
        lambda _: "[currency] = N'xxx'",
        lambda _: "[note] = N'e\u0301'",
        lambda key: f"[created_at] = {quote_time(beside(key, 'created_at') + timedelta(microseconds=1))}",
    ]
    planted["different"] = [next(keys) for _ in changes]
    sink = f"[dbo].[{made.pipeline.sink.table}]"
    made.change("ALTER TABLE orders DISABLE TRIGGER USER")
    made.change("UPDATE orders SET note = NULL WHERE order_id = %s", planted["different"][0])
    made.change("UPDATE orders SET note = '\u00e9' WHERE order_id = %s", planted["different"][5])
    for change, key in zip(changes, planted["different"], strict=True):
        made.execute(f"UPDATE {sink} SET {change(key)} WHERE [order_id] = {key}")
    for key in planted["missing"]:
        made.execute(f"DELETE FROM {sink} WHERE [order_id] = {key}")
    for name, days in (("older", -1), ("newer", 1)):
        for key in planted[name]:
            version = quote_time(beside(key, "updated_at") + timedelta(days=days))
            made.execute(f"UPDATE {sink} SET [updated_at] = {version} WHERE [order_id] = {key}")
    made.change("UPDATE orders SET status = 'cancelled' WHERE order_id = ANY(%s)", planted["unmatched"])
    made.change("DELETE FROM orders WHERE order_id = ANY(%s)", planted["deleted"])
    made.change(
        "UPDATE orders SET amount = amount + 1, updated_at = now() WHERE order_id = ANY(%s)", planted["pending"]
    )
    made.change("ALTER TABLE orders ENABLE TRIGGER USER")
    return planted


@pytest.mark.parametrize("mode", ["quick", "deep"])
def test_each_planted_difference_is_found_and_named(made: PipelineFixture, runs: Runs, mode: Mode) -> None:
    runs.run("first")
    planted = plant(made)
    expected = {name: len(keys) for name, keys in planted.items() if mode == "deep" or name != "different"}
    assert found(made, mode) == expected


def test_the_command_reports_differences_and_ends_with_65(made: PipelineFixture, runs: Runs) -> None:
    runs.run("first")
    planted = plant(made)
    command = [sys.executable, "-m", "etl", "verify", "--pipeline", made.pipeline.model_dump_json(), "--run-id", "v1"]
    ran = subprocess.run(
        [*command, "--mode", "deep"], env=made.environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 65, ran.stderr
    lines = [line["event"] for line in as_json(ran)]
    assert f"verify: 3 missing: {FAULTS['missing']}." in lines
    key = planted["different"][0]
    assert f"verify:   order_id={key}; note: NULL, in the sink ''" in lines
    assert "verify:   … and 2 more" in lines
    (row,) = made.query(
        "SELECT [mode], [missing], [older], [newer], [different], [pending], [unmatched], [deleted], [verdict]"
        " FROM [etl].[verification] WHERE [pipeline] = ?",
        made.pipeline.name,
    )
    assert row == ("deep", 3, 3, 3, 7, 3, 3, 3, "differs")
    folder = Path(made.settings.staging_url.removeprefix("file://")) / made.pipeline.name
    (page,) = folder.rglob("report.html")
    assert f"order_id={key}" in page.read_text()
    (keys,) = folder.rglob("keys.parquet")
    listed: dict[str, list[int]] = {}
    for each in pq.read_table(keys).to_pylist():
        listed.setdefault(each["class"], []).append(int(each["key"]["order_id"]))
    assert {name: sorted(found) for name, found in listed.items()} == planted


def read_keys(made: PipelineFixture, outcome: Outcome) -> dict[str, int]:
    """The number of keys of each class in the file of keys."""
    counts: dict[str, int] = {}
    for each in pq.read_table(outcome.keys_file).to_pylist() if outcome.keys_file else []:
        counts[each["class"]] = counts.get(each["class"], 0) + 1
    assert made.pipeline.key
    return counts


KEYS: dict[str, tuple[dict[str, str], Callable[[Random, int], tuple[str, ...]]]] = {
    "bigint": ({"k": "bigint"}, lambda _, number: (str(number * 10**15 - 2**60),)),
    "smallint": ({"k": "smallint"}, lambda _, number: (str(number - 30),)),
    "numeric": ({"k": "numeric(30,4)"}, lambda _, number: (f"{number - 9}{10**20}.0{number:03}",)),
    "real": ({"k": "real"}, lambda _, number: (repr(number / 3),)),
    "double": ({"k": "double precision"}, lambda _, number: (repr(number / 3 * 10.0 ** (number - 30)),)),
    "varchar": ({"k": "varchar(40)"}, lambda chance, place: (f"{chance.choice('aAäß ')}{place % 30}'é{place // 30}",)),
    "char": ({"k": "char(8)"}, lambda chance, number: (f"{chance.choice('aA')}{number}",)),
    "uuid": ({"k": "uuid"}, lambda chance, _: (str(UUID(int=chance.getrandbits(128))),)),
    "date": ({"k": "date"}, lambda _, number: (f"{1 + number * 160:04}-02-03",)),
    "time": ({"k": "time"}, lambda _, number: (f"10:{number:02}:00.000001",)),
    "timestamp": ({"k": "timestamp"}, lambda _, number: (f"{1 + number * 160:04}-02-03 01:02:03.999999",)),
    "timestamptz": ({"k": "timestamptz"}, lambda _, number: (f"2026-03-29 0{number % 6}:{number:02}:03.5+02",)),
    "composite": (
        {"a": "varchar(10)", "b": "boolean", "c": "uuid", "d": "integer"},
        lambda chance, number: (chance.choice("xX"), "ft"[number % 2], str(UUID(int=number % 7)), str(number)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
def test_random_differences_are_found_whatever_the_key_is(
    kind: str, postgres: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random(f"{SEED} {kind}")
    key, make = KEYS[kind]
    changes = {
        "missing": "DELETE FROM {} WHERE [v] = N'{}'",
        "older": "UPDATE {} SET [at] = CAST(N'2019-01-01T00:00:00' AS datetime2(6)) WHERE [v] = N'{}'",
        "newer": "UPDATE {} SET [at] = CAST(N'2021-01-01T00:00:00' AS datetime2(6)) WHERE [v] = N'{}'",
        "different": "UPDATE {} SET [n] = 2 WHERE [v] = N'{}'",
    }
    columns = {**key, "v": "text", "n": "integer", "at": "timestamptz"}
    with table(postgres, sink_url, tmp_path, name="keys", columns=columns, key=list(key), version="at") as made:
        for number in range(60):
            values = [*make(chance, number), f"row {number}", "1", "2020-01-01 00:00:00+00"]
            made.change(f"INSERT INTO t VALUES ({', '.join(['%s'] * len(values))})", *values)
        Runs(made, monkeypatch).run("first")
        model: dict[str, int] = {}
        for number in range(60):
            planted = chance.choice([*changes, "deleted", "equal"])
            if planted in changes:
                made.execute(changes[planted].format(f"[dbo].[{made.pipeline.sink.table}]", f"row {number}"))
            elif planted == "deleted":
                made.change("DELETE FROM t WHERE v = %s", f"row {number}")
            model[planted] = model.get(planted, 0) + 1
        outcome = compare(made.settings, made.pipeline, "verify", "deep")
        assert outcome.equal == model.pop("equal")
        assert {name: count for name, count in outcome.classes.items() if count} == model
        assert read_keys(made, outcome) == model
        assert {each.kind for each in outcome.examples} == model.keys()


def test_of_many_suspects_both_sides_are_read_as_a_whole(
    made: PipelineFixture, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run("first")
    planted = plant(made)
    monkeypatch.setattr(confirm, "ONE_BY_ONE", 1)
    monkeypatch.setattr(verify_compare, "_AT_ONCE", 5)
    assert found(made, "deep") == {name: len(keys) for name, keys in planted.items()}


REPLACED = {**ORDERS, "version": None, "mode": "replace", "deletes": "delete"}


@pytest.mark.parametrize("key", [["order_id"], []])
def test_without_a_version_a_difference_counts_where_the_source_is_as_the_last_run_read_it(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: list[str]
) -> None:
    with pipeline_fixture({**REPLACED, "key": key}, source_url, sink_url, tmp_path) as made:
        runs, rows = Runs(made, monkeypatch), len(made.source_rows(ORDERS["filter"])) if key else 1600
        runs.run("first")
        outcome = compare(made.settings, made.pipeline, "verify", "deep")
        assert (outcome.equal, outcome.listed()) == (rows, "no difference")
        sink = f"[dbo].[{made.pipeline.sink.table}]"
        first, second = [
            number for (number,) in made.query(f"SELECT TOP (2) [order_id] FROM {sink} ORDER BY [order_id]")
        ]
        made.execute(f"DELETE FROM {sink} WHERE [order_id] = {first}")
        made.execute(f"UPDATE {sink} SET [note] = N'by hand' WHERE [order_id] = {second}")
        outcome = compare(made.settings, made.pipeline, "verify", "deep")
        expected = {"missing": 1, "different": 1} if key else {"missing": 2, "extra": 1}
        assert {name: count for name, count in outcome.classes.items() if count} == expected
        made.change("UPDATE orders SET note = 'since' WHERE order_id = %s", second)
        outcome = compare(made.settings, made.pipeline, "verify", "deep")
        assert (outcome.faults, outcome.classes["pending"]) == (0, 2)


def test_rows_that_a_comparison_of_keys_will_remove_are_no_fault(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as before:
        Runs(before, monkeypatch).run("first")
        before.change(
            "DELETE FROM orders WHERE order_id = (SELECT min(order_id) FROM orders WHERE status = 'confirmed')"
        )
        # Its first load adds the columns that the pipeline fills itself.
        marks = before.pipeline.model_dump() | {"deletes": "mark", "loaded_at": "loaded_at"}
        outcome = compare(before.settings, Pipeline.model_validate(marks), "verify", "deep")
        assert (outcome.faults, outcome.classes["leaving"]) == (0, 1)


def test_a_pipeline_that_reads_the_log_is_refused_with_the_reason(made: PipelineFixture) -> None:
    log = Pipeline.model_validate(made.pipeline.model_dump(exclude={"look_back"}) | {"capture": "log"})
    with pytest.raises(ConfigurationError, match="cannot be verified yet"):
        compare(made.settings, log, "verify", "quick")


def test_before_the_first_run_there_is_nothing_to_verify(made: PipelineFixture) -> None:
    with pytest.raises(ConfigurationError, match="there is nothing to verify"):
        compare(made.settings, made.pipeline, "verify", "quick")


def test_while_loads_run_and_transactions_commit_late_nothing_is_a_fault(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look-back, so that only the record of open transactions says what is not due yet."""
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, look_back=timedelta(0)) as made:
        runs, ended = Runs(made, monkeypatch), threading.Event()
        runs.run("first")
        outcomes: list[Outcome] = []

        def verify() -> None:
            while not ended.is_set():
                outcomes.extend(compare(made.settings, made.pipeline, "verify", mode) for mode in MODES)

        changed = "UPDATE orders SET amount = amount + 1, status = 'confirmed' WHERE mod(order_id, 40) = %s"
        with ThreadPoolExecutor(1) as thread, psycopg.connect(made.source_url) as late:
            verifying = thread.submit(verify)
            try:
                for number in range(6):
                    late.execute(changed, [number])
                    made.change(changed, number + 20)
                    runs.run(f"run {number}")
                    late.commit()
            finally:
                ended.set()
            verifying.result()
        assert len(outcomes) >= 2
        assert [outcome.sentence() for outcome in outcomes if outcome.faults] == []
        runs.run("last")
        assert found(made, "deep") == {}
