"""Types of Postgres that SQL Server does not have: enums and domains as keys, every other type as its text."""

import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError

from dev.sandbox.pipeline_fixture import pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'O''K', 'happy');
CREATE DOMAIN word AS varchar(20) CHECK (value <> 'no');
CREATE DOMAIN name_of_person AS word NOT NULL;
CREATE DOMAIN their_name AS name_of_person;
CREATE DOMAIN price AS numeric(8,3);
CREATE DOMAIN points AS integer[];
CREATE TYPE pair AS (flag boolean, words text);
"""


@pytest.fixture
def source(postgres: Postgres) -> Iterator[str]:
    """The URL of a database that has types of a user."""
    url = postgres.create_database(f"forms_{uuid.uuid4().hex[:8]}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TYPES)
    yield url
    postgres.drop_database(url.rpartition("/")[2])


def definition(**columns: str) -> dict[str, Any]:
    return {
        "name": "forms", "source": "public.t", "columns": {"id": "bigint", **columns, "at": "timestamptz"},
        "key": ["id"], "version": "at", "filter": "true",
    }  # fmt: skip


def test_enums_and_domains_are_keys_versions_and_values(
    source: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moods = {
        **definition(mood="varchar(63)", name="varchar(20)", price="numeric(8,3) null", other="varchar(63) null"),
        "key": ["mood", "name"], "partition_size": 8, "filter": "mood <> 'sad' OR name = 'kept'",
    }  # fmt: skip
    with pipeline_fixture(moods, source, sink_url, tmp_path, pushdown=True) as made:
        made.change("CREATE DOMAIN changed AS timestamptz(3)")
        made.change(
            "CREATE TABLE t (id bigint, mood mood, name their_name, price price, other mood, at changed DEFAULT now(),"
            " PRIMARY KEY (mood, name), CHECK (at IS NOT NULL)); ALTER TABLE t ALTER at SET NOT NULL"
        )
        made.change(
            "INSERT INTO t SELECT n, mood, 'n' || n, n + 0.125, CASE WHEN n > 3 THEN mood END"
            " FROM unnest(enum_range(NULL::mood)) AS mood, generate_series(1, 7) AS n"
        )
        made.change("UPDATE t SET name = 'kept' WHERE mood = 'sad' AND id = 1")
        runs = Runs(made, monkeypatch)
        assert runs.run("first")["kept"] == 15
        assert len(made.audits()) > 2, "cut by the enum's order"
        made.change("UPDATE t SET price = 99999.999, at = clock_timestamp() WHERE mood <> 'sad' AND id < 4")
        assert runs.run("second")["updated"] == 6
        assert made.sink_rows() == made.source_rows("mood <> 'sad' OR name = 'kept'")


VALUES = {
    "mood": "O'K",
    "integer[]": "[0:1]={7,NULL}",
    "text[]": '{{"a,b",NULL},{"",NULL}}',
    "mood[]": "{sad,O'K}",
    "points": "{1,2}",
    "pair": '(t," x ")',
    "pair[]": '{"(,\\"\\")"}',
    "int4range": "[1,4)",
    "tstzrange": '["2026-01-01 00:00:00+00",)',
    "datemultirange": "{[2026-01-01,2026-01-05),[2026-02-01,)}",
    "point": "(0.1,1e+300)",
    "polygon": "((0,0),(0.30000000000000004,1))",
    "tsvector": "'fat':2A 'rat':3",
    "tsquery": "'fat' & !'rat'",
    "jsonpath": '$."a"[*]?(@ > 1)',
    "interval[]": '{"-1 mons +3 days -04:05:06.7"}',
    "bytea[]": '{"\\\\x00ff"}',
    "aclitem": "postgres=r/postgres",
    "numeric": "0." + "123456789" * 20,
    "macaddr": "08:00:2b:01:02:03",
    "regclass": "t",
    "tid": "(0,1)",
}


@pytest.mark.parametrize("step", ["separate", "run"])
def test_every_other_type_arrives_as_its_text_whatever_the_settings_of_the_role(
    source: str, sink_url: str, tmp_path: Path, step: str
) -> None:
    """Drivers lose dimensions and bounds of arrays, digits of points and more."""
    columns = {f"c{place}": kind for place, kind in enumerate(VALUES)}
    with pipeline_fixture(definition(**dict.fromkeys(columns, "text null")), source, sink_url, tmp_path) as made:
        declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        made.change(f"CREATE TABLE t (id bigint PRIMARY KEY, {declared}, at timestamptz NOT NULL DEFAULT now())")
        made.change(f"INSERT INTO t VALUES (1, {', '.join(['%s'] * len(columns))})", *VALUES.values())
        made.change("INSERT INTO t (id) VALUES (2)")
        database = source.rpartition("/")[2]
        for setting in ("intervalstyle = iso_8601", "extra_float_digits = -15", "bytea_output = escape"):
            made.change(f"ALTER DATABASE {database} SET {setting}")
        made.run("run", None, *([] if step == "separate" else [step]))
        rows = made.sink_rows()
        assert dict(zip(VALUES, rows[1,][1:-1], strict=True)) == VALUES
        assert set(rows[2,][1:-1]) == {None}


OWN_NAMES: dict[str, list[tuple[str, Any]]] = {
    "money": [("-92233720368547758.08", Decimal("-92233720368547758.08")), ("0.01", Decimal("0.01"))],
    "oid": [("4294967295", 4294967295)],
    "xid": [("4294967295", 4294967295)],
    "xid8": [("18446744073709551615", Decimal(18446744073709551615))],
    "inet": [("10.0.0.1", "10.0.0.1"), ("::ffff:1.2.3.4/127", "::ffff:1.2.3.4/127"), ("10.1.2.3/8", "10.1.2.3/8")],
    "cidr": [("10.0.0.0/8", "10.0.0.0/8"), ("10.0.0.1", "10.0.0.1/32")],
    "macaddr8": [("08-00-2b-01-02-03-04-05", "08:00:2b:01:02:03:04:05")],
    "interval": [
        ("-178956970 years -7 mons -2147483648 days -2562047788:00:54.775807",) * 2,
        ("1 day -0.5s", "1 day -00:00:00.5"), ("infinity", "infinity"),
    ],
    "timetz": [("24:00:00+15:59:59", "24:00:00+15:59:59"), ("23:59:59.999999-15:59:59", "23:59:59.999999-15:59:59")],
    "pg_lsn": [("FFFFFFFF/FFFFFFFF", "FFFFFFFF/FFFFFFFF")],
    "name": [("é" * 31, "é" * 31), ("", "")],
    '"char"': [("", ""), ("\\377", "\\377"), ("x", "x")],
    "bit(3)": [("101", "101")],
    "varbit(3)": [("", ""), ("10", "10")],
    "tsvector": [("'a':1", "'a':1")],
}  # fmt: skip
"""Of each type, values as they are written and as the sink has them."""


@pytest.mark.parametrize("pushdown", [False, True])
def test_types_of_postgres_are_declared_by_their_names(
    source: str, sink_url: str, tmp_path: Path, pushdown: bool
) -> None:
    """Some of them reach a driver as other numbers than they are."""
    columns = {f"c{place}": kind for place, kind in enumerate(OWN_NAMES)}
    nullable = {name: f"{kind} null" for name, kind in columns.items()}
    condition = "coalesce(c0, -1) < 0 AND (c1 IS NULL OR c1 IS NOT NULL) AND coalesce(c10, '-') <> ''"
    with pipeline_fixture(
        definition(**nullable), source, sink_url, tmp_path, filter=condition, pushdown=pushdown
    ) as made:
        declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        made.change(f"CREATE TABLE t (id bigint PRIMARY KEY, {declared}, at timestamptz NOT NULL DEFAULT now())")
        expected = {}
        for place, (name, values) in enumerate(zip(columns, OWN_NAMES.values(), strict=True)):
            for number, (written, arrives) in enumerate(values):
                made.change(f"INSERT INTO t (id, {name}) VALUES (%s, %s)", 10 * place + number, written)
                expected[10 * place + number] = arrives
        del expected[1], expected[101]  # by the filter
        made.run()
        found = {key: next(each for each in row[1:-1] if each is not None) for (key,), row in made.sink_rows().items()}
        assert found == expected


@pytest.mark.parametrize(
    ("kind", "declared", "told"),
    [
        ("pg_node_tree", "text null", "c of public.t is pg_node_tree, which is internal to Postgres; leave the column"),
        ("mood", "integer null", "c of public.t is mood, the pipeline says integer null; declare it varchar(63)"),
        ("points", "integer null", "c of public.t is integer[], the pipeline says integer null; declare it text"),
        ("integer", "text null", "c of public.t is integer, the pipeline says text null"),
        ("jsonb", "text null", "c of public.t is jsonb, the pipeline says text null"),
    ],
)
def test_a_type_that_is_declared_as_another_is_refused_with_the_one_to_write(
    source: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, declared: str, told: str
) -> None:
    with pipeline_fixture(definition(c=declared), source, sink_url, tmp_path) as made:
        made.change(f"CREATE TABLE t (id bigint PRIMARY KEY, c {kind}, at timestamptz NOT NULL)")
        with pytest.raises(AirflowFailException) as planned:
            Runs(made, monkeypatch).plan()
        with pytest.raises(ConfigurationError) as extracted:
            made.run()
        assert told in str(planned.value)
        assert told in str(extracted.value)


@pytest.mark.parametrize(
    ("kind", "declared"), [("integer[]", "text"), ("numeric", "text"), ("int4range", "text"), ('"char"', "varchar(4)")]
)
def test_a_filter_does_not_compare_texts_that_stand_for_other_values(
    source: str, sink_url: str, tmp_path: Path, kind: str, declared: str
) -> None:
    with pipeline_fixture(definition(c=declared), source, sink_url, tmp_path, filter="c <> '1.0'") as made:
        made.change(f"CREATE TABLE t (id bigint PRIMARY KEY, c {kind}, at timestamptz NOT NULL)")
        with pytest.raises(ConfigurationError, match="let the filter ask only whether it is null"):
            made.run()


@pytest.mark.parametrize("kind", ["interval[]", "numrange", "pair"])
def test_a_key_has_one_text_for_each_value(source: str, sink_url: str, tmp_path: Path, kind: str) -> None:
    with pipeline_fixture({**definition(c="varchar(200)"), "key": ["c"]}, source, sink_url, tmp_path) as made:
        made.change(f"CREATE TABLE t (id bigint NOT NULL, c {kind} PRIMARY KEY, at timestamptz NOT NULL)")
        with pytest.raises(ConfigurationError, match="equal in Postgres have several texts"):
            made.run()
