"""Claims that hold for every text from outside. Property tests and the fuzzer look for counterexamples."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.model.column_types import parse_column_type
from etl.model.pipeline import Pipeline
from etl.model.planning import choose_window
from etl.model.predicate import parse_predicate
from etl.model.predicate_sql import render_duckdb, render_tsql
from etl.model.window import Partition, Window
from etl.postgres.filter import pushdown_condition
from pydantic import SecretStr, ValidationError

from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.sqlserver.sql.lexer import tokenize
from tests.fuzz.statements import definition, mapped, names_in, quoted, shape, tsql

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
COLUMNS = {
    name: parse_column_type(declared)
    for name, declared in {"status": "text", "amount": "numeric(9,2)", "active": "boolean", 'a"]b': "text"}.items()
}
_PLAIN = make(definition(["a", "b", "c"], "d", "e"))
_SHAPE = shape(_PLAIN, ["x", "y"])
_MAPPED = shape(make(mapped(["a", "b", "c"], "d", "e", "f")), ["x", "y"])
_ENGINE = duckdb.connect()
_WORDS = {
    *("AND", "OR", "NOT", "IN", "LIKE", "BETWEEN", "IS", "NULL", "COLLATE", "LATIN1_GENERAL_BIN2"),
    *("ABS", "COALESCE", "RTRIM", "TRANSLATE", "CAST", "AS", "DECIMAL", "NVARCHAR", "MAX"),
}


def a_name_or_key_is_one_token(names: list[str], schema: str, table: str, keys: Sequence[str]) -> None:
    """Of a pipeline that is let through, every statement is cut into the same tokens as that of a plain one."""
    try:
        pipeline = make(definition(names, schema, table))
    except ValidationError:
        return
    # No text in Postgres has a zero character, and none that comes over a UTF-8 connection a surrogate.
    known = [key.replace("\0", "").encode(errors="replace").decode() for key in keys]
    assert shape(pipeline, known) == _SHAPE
    try:
        other = make(mapped(names, schema, table, known[0]))
    except ValidationError:  # of a text that cannot be a constant
        pass
    else:
        assert shape(other, known) == _MAPPED
    create, staging, *_ = tsql(pipeline)
    assert names_in(create) == {*names, schema, table, f"ix_{pipeline.version}"}
    assert names_in(staging) >= set(names)
    assert all(len(name) <= 128 for name in names_in(create))


def a_pipeline_is_refused_in_words_or_survives_being_written(given: dict[str, Any]) -> None:
    """An accepted pipeline can be passed to a pod."""
    try:
        pipeline = Pipeline.model_validate(given)
    except ValidationError:
        return
    text = pipeline.model_dump_json()
    assert Pipeline.model_validate_json(text) == pipeline
    assert len(text.encode()) < 128 * 1024
    assert not any(sign in text for sign in ("{{", "{%", "{#", "\0"))
    names = (*pipeline.columns, pipeline.sink.table, pipeline.sink.schema_name)
    assert all(name.isprintable() for name in names)


def a_filter_is_refused_in_words_or_is_a_condition_of_known_words(text: str) -> None:
    """No comment, no second statement, no function that is not known, no column that is not declared."""
    try:
        expression = parse_predicate(text, COLUMNS)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    tokens = tokenize(render_tsql(expression))
    assert {token.value for token in tokens if token.kind == "quoted"} <= set(COLUMNS)
    assert {token.value.upper() for token in tokens if token.kind == "word"} <= _WORDS
    assert not {token.value for token in tokens if token.kind == "mark"} & {";", "::"}


def a_text_in_a_filter_is_that_text_everywhere(text: str) -> None:
    """In DuckDB, in T-SQL and in Postgres."""
    column = 'a"]b'
    condition = f"{quoted(column)} = '{text.replace(chr(39), chr(39) * 2)}'"
    try:
        expression = parse_predicate(condition, COLUMNS)
    except ValueError:
        assert (
            text.endswith(" ") or any(sign in text for sign in "\0\\") or any("\ud800" <= c <= "\udfff" for c in text)
        )
        return
    sent = [token.value for token in tokenize(render_tsql(expression)) if token.kind == "text"]
    assert sorted(sent) == sorted([f"{text}|", "|"])
    query = f"SELECT {render_duckdb(expression)} FROM (SELECT ? AS {quoted(column)})"
    assert [_ENGINE.execute(query, [each]).fetchone() for each in (text, f"{text}x")] == [(True,), (False,)]
    if "{" not in text:  # a template's beginning is refused
        pipeline = make(definition(["a", column, "c"], "d", "e"), filter=condition, pushdown=True)
        inner = pushdown_condition(pipeline, {}).partition("E'")[2].partition("'::text)")[0]
        assert inner.replace("\\\\", "\\").replace("''", "'") == text


def a_column_type_is_refused_in_words_or_is_written_the_same_again(text: str) -> None:
    """Only the numbers of a declared type reach a statement."""
    try:
        column = parse_column_type(text)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    assert parse_column_type(str(column)) == column
    assert column.tsql.isascii()


def params_are_refused_in_words_or_choose_a_window(
    params: dict[str, Any], watermark: datetime | None, look_back: timedelta
) -> None:
    """Whatever type a Param has."""
    try:
        window = choose_window(make(ORDERS, look_back=look_back), params, watermark, NOW)
    except ConfigurationError as error:
        assert len(str(error)) < 5000  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017
        return
    assert window.high <= NOW
    assert Window.model_validate_json(window.model_dump_json()) == window


def a_partition_is_refused_in_words_or_survives_being_written(text: str) -> None:
    """As a pod gets it, as its argument."""
    try:
        partition = Partition.model_validate_json(text)
    except ValidationError:
        return
    assert Partition.model_validate_json(partition.model_dump_json()) == partition


def a_url_is_refused_without_showing_it_or_names_one_server(url: str) -> None:
    """In an ODBC connection string every value is one, whatever stands in it."""
    settings = Settings(sink_url=SecretStr(url), sink_password=SecretStr("p};UID=sa"))
    try:
        words = settings.sink().get_secret_value()
    except ConfigurationError as error:
        assert "p};UID=sa" not in str(error)  # noqa: PT017
        return
    found = re.findall(r"(\w+)=\{((?:[^}]|\}\})*)\}(?:;|$)", words)
    assert ";".join(f"{name}={{{value}}}" for name, value in found) == words
    assert [name for name, _ in found] == ["Server", "Database", "UID", "PWD", "Encrypt", "TrustServerCertificate"]
    assert dict(found)["PWD"] == "p}};UID=sa"
