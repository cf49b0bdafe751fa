"""Every statement that a pipeline's names, keys and filter reach, cut into tokens: a name is one token or a hole."""

from datetime import UTC, datetime
from typing import Any

from etl.model.column import Column
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.model.window import Partition
from etl.postgres import catalogue as source_catalogue
from etl.postgres import sql as source_sql
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import ledger, merge_sql, own_rows, prepare_sql, watermark
from etl.sqlserver import sql as sink_sql
from sqlglot.dialects.postgres import Postgres

from dev.sandbox.pipelines import window
from dev.sandbox.sqlserver.sql.lexer import tokenize

SIGNS = [
    *"abcXYZ0123456789_ ",
    *"'\"[]`;()%?:@$#\\|&<>!*/-.,={}",
    *("--", "/*", "*/", "''", "]]", '""', "\\'", "$$", "; DROP TABLE orders", "' OR '1'='1", "%s", "%(x)s", "$(id)"),
    *"\t\n\r\0\x1b\x7f\xa0\u200b\u2028\u202e\ufeff\ud800\uffff",
    *"äßéЖ漢🚚ａﬁİſ\u0301",
]
"""An attacker's characters: quotes of every kind, comments, controls, lookalikes, letters whose case changes length."""
WINDOW = window("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
REFRESHED = WINDOW.model_copy(update={"refresh": "all"})


def definition(names: list[str], schema: str, table: str, **more: Any) -> dict[str, Any]:
    """A pipeline of two keys and a version whose columns are called so."""
    key, other, version = names
    return {
        "name": "hostile",
        "source": {"schema_name": schema, "table": table},
        "sink": {"schema_name": schema, "table": table},
        "columns": {key: "varchar(40)", other: "varchar(40)", version: "timestamptz"},
        "key": [key, other],
        "version": version,
        "filter": f"{quoted(other)} <> 'none'",
        **more,
    }


def mapped(names: list[str], schema: str, table: str, text: str) -> dict[str, Any]:
    """The same with columns that exchange their names, a constant of the key, and an expression."""
    key, other, version = names
    literal = "'" + text.replace("'", "''") + "'"
    columns = {
        key: Column("varchar(40)", source=other),
        other: Column("varchar(40)", constant=text),
        version: Column("timestamptz", source=key),
        "computed": Column("text null", expression=f"lower({quoted(version)}) || {literal}"),
    }
    return definition(names, schema, table, columns=columns, deletes="delete", loaded_at="loaded at")


def quoted(name: str) -> str:
    """A name as written in a filter."""
    return '"' + name.replace('"', '""') + '"'


def tsql(pipeline: Pipeline) -> list[str]:
    """The T-SQL that a pipeline makes."""
    staging, part = TableName(schema_name="etl_staging", table="x"), Partition(window=WINDOW)
    return [
        sink_sql.create_table(sink_sql.sink_table(pipeline)),
        sink_sql.create_table(sink_sql.staging_table(pipeline, "x")),
        *(make(pipeline, staging, part) for make in (merge_sql.update_newer, merge_sql.insert_missing)),
        merge_sql.count_present(pipeline, staging, part),
        merge_sql.insert_all(pipeline, staging),
        sink_sql.any_row(pipeline.sink),
        sink_sql.count_rows(pipeline.sink),
        own_rows.newest_rows(pipeline, 5),
        sink_sql.create_index(sink_sql.sink_table(pipeline)),
        merge_sql.update_newer(pipeline, staging, part.model_copy(update={"window": REFRESHED})),
        sink_checks.count_duplicate_keys(pipeline, WINDOW),
        sink_checks.count_breaches(pipeline, WINDOW, []),
        sink_checks.find_indexes(pipeline.sink),
        sink_checks.find_required(pipeline.sink),
        sink_sql.lock(f"etl: {pipeline.sink}", 5),
        sink_sql.find_table(pipeline.sink),
        ledger.read_audit(pipeline, pipeline.source.table),  # the ids of runs are any text
        watermark.insert_watermark(pipeline, pipeline.source.table, WINDOW),
        *prepare_sql.grants([pipeline]),
    ]


def postgres(pipeline: Pipeline, keys: list[str]) -> list[str]:
    """The SQL for Postgres that a pipeline makes, and the keys at which its partitions end."""
    part = Partition(window=WINDOW, lower=keys, upper=keys)
    return [
        source_sql.count_window(pipeline, WINDOW, WINDOW.high, datetime(2026, 1, 1, tzinfo=UTC)),
        source_sql.unreachable_rows(pipeline, WINDOW, WINDOW.high, 5),
        source_sql.partition_bounds(pipeline, WINDOW, 5),
        source_sql.extract_rows(pipeline, part, {}),
        source_sql.count_partition(pipeline, part, {}),
        source_sql.extract_rows(pipeline, Partition(window=WINDOW, share=(1, 3)), {}),
        source_sql.duplicate_keys(pipeline, part, {}),
        source_sql.find_row(pipeline, keys, {}),
        *(
            ask(pipeline.source)
            for ask in (
                source_catalogue.relation_kind,
                source_catalogue.describe_columns,
                source_catalogue.unique_indexes,
                source_catalogue.inheriting_tables,
                source_catalogue.row_security,
            )
        ),
        source_sql.versions_of(pipeline, [(keys, datetime(2026, 1, 1, tzinfo=UTC))], {}),
    ]


def shape(pipeline: Pipeline, keys: list[str]) -> list[list[str]]:
    """The kinds of the tokens of each statement, as others than we cut them."""
    cut: list[list[str]] = [[str(token.kind) for token in tokenize(text)] for text in tsql(pipeline)]
    for text in postgres(pipeline, keys):
        tokens = Postgres().tokenize(text)
        assert not any(token.comments for token in tokens), text
        # A name may be quoted or not; what else a token is must not depend on it.
        cut.append([token.token_type.name for token in tokens])
    return cut


def names_in(text: str) -> set[str]:
    """The names that a statement of T-SQL has in brackets."""
    return {token.value for token in tokenize(text) if token.kind == "quoted"}
