"""Tables with unusual names of columns, keys and tables: they move, are checked, and rejected rows are logged.

Each example is a wide table of such names, brought through whole runs: plan, the steps, reconcile.
"""

import re
import unicodedata
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlglot
from etl.model.window import Partition
from etl.postgres.quoting import quote_name, quote_table, quote_text
from etl.sqlserver import sql as sink_sql
from etl.storage.staging import Step
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import make
from dev.sandbox.postgres import Postgres
from dev.sandbox.sqlserver.sql.lexer import tokenize
from tests.fuzz import statements
from tests.harness.runs import Runs

_PLAIN = make(statements.definition(["a", "b", "c"], "d", "e"))
IN_T_SQL = {
    each.value for text in statements.tsql(_PLAIN) for each in tokenize(text) if each.kind in ("word", "quoted")
}
IN_POSTGRES = {
    each.text
    for text in statements.postgres(_PLAIN, ["x", "y"])
    for each in sqlglot.tokenize(text, dialect="postgres")
    if each.text.isidentifier()
}
_ELSEWHERE = """
    staged outcomes rejects raw broken undecided reason outcome hash row rows c0 c1 kept dropped rejected partition
    window listed fingerprint checksum pipeline run_id partition_id filter version key keys place position t s k k0 k1
    value audit etl watermark main temp duplicates standing granted etl_staging sink source columns name n i excluded
    inserted deleted
"""
# The first five have roles: see `wide`.
_FIRST = ["reason", "staged", "version", "position", "keys"]
OURS = [*_FIRST, *sorted((IN_T_SQL | IN_POSTGRES | set(_ELSEWHERE.split())) - set(_FIRST))]
_KEYWORDS = {
    word.lower()
    for dialect in ("postgres", "tsql", "duckdb")
    for word in sqlglot.Dialect.get_or_raise(dialect).tokenizer_class.KEYWORDS
    if word.replace("_", "a").isalpha()
}
_MORE_KEYWORDS = """
    identity rowguidcol top percent index plan proc procedure user external merge clustered nonclustered fillfactor
    openxml tsequal waitfor within readtext holdlock nocheck compute browse backup bulk checkpoint dbcc deny errlvl
    identitycol current_user session_user system_user analyse asymmetric both do initially lateral placing variadic
    verbose asof positional semi anti qualify describe show summarize pivot unpivot sample macro lambda struct map list
"""
RESERVED = sorted(_KEYWORDS | set(_MORE_KEYWORDS.split()))
_SIGNS = r"""
    ? a?b ?? % %s %(x)s %% :x @x @@rowcount #x ##x $x $1 $action $identity [ ] ]] [x] " "" "x" ' '' ` \ \' . a.b dbo.t
    .. , ; -- /* */ { } {oj ${x} $(x) ( ) * = & | <x> ~ ^ ! 0 1 1e5 0x1f -1 null NULL true a#b a$b a-b N'x' E'x' U&x
    x::int a=b a/b a,b a;b -x +x @ # $ ß ǆ ß₂ ﬀ עברית ключ ñ Æ
"""
ODD = [
    *_SIGNS.split(),
    *(" ", " x", "x y", "{fn now()}", "{d '2020-01-01'}", "{call x}"),
    *("x" * 63, "é" * 31, "漢" * 21, "🚚" * 15),
    *("\u0130", "\u0131", "\u03a3\u03c2", "\u0301", "e\u0301x", "\uff0e", "x\u3002y", "\uff21"),
]

# A column for each role, then as many as there are names.
SHORT, FILTERED, VERSION, KEY, OTHER = range(5)
_READ = 30
_INSERTED, _CHANGED = "now() - interval '5 minutes'", "now()"


def wide(names: Sequence[str], schema: str, table: str) -> dict[str, Any]:
    """A pipeline of the names, but for those that SQL Server may take for one of the others."""
    apart: dict[str, str] = {}
    for name in [*names, *(f"added {number}" for number in range(5))]:
        apart.setdefault(_folded(name), name)
    taken = list(apart.values())
    types = dict.fromkeys(taken, "text null")
    types |= {taken[SHORT]: "varchar(3) null", taken[FILTERED]: "text", taken[VERSION]: "timestamptz"}
    types |= {taken[KEY]: "varchar(200)", taken[OTHER]: "integer"}
    read = (f"({quote_name(name)} <> 'no' OR {quote_name(name)} IS NULL)" for name in taken[OTHER + 1 :][:_READ])
    return {
        "name": "names",
        "source": {"schema_name": schema, "table": table},
        "sink": {"schema_name": schema, "table": table},
        "columns": types,
        "key": [taken[KEY], taken[OTHER]],
        "version": taken[VERSION],
        "filter": " AND ".join([f"{quote_name(taken[FILTERED])} <> 'drop'", *read]),
        "tolerated_rejects": 9,
        "partition_size": 4,
    }


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).rstrip(" ")


def row(made: PipelineFixture, number: int, word: str, **values: str) -> str:
    """The values of a row as Postgres reads them; each text names its column, so that none can take another's place."""
    names = list(made.pipeline.columns)
    texts = [quote_text(f"{word} {number} {name}") for name in names]
    texts[SHORT], texts[FILTERED], texts[OTHER] = "'abc'", "'keep'", str(number)
    texts[KEY] = quote_text(f"{number} {names[KEY]}")
    for place, value in values.items():
        texts[globals()[place.upper()]] = value
    return f"({', '.join(texts)})"


def moves(postgres: Postgres, sink_url: str, staging: Path, definition: dict[str, Any]) -> None:
    """The table of a pipeline goes through two runs, by separate steps and by the one that does all."""
    schema = definition["source"]["schema_name"]
    database = f"names_{uuid.uuid4().hex[:8]}"
    url = postgres.create_database(database)
    try:
        with (
            pytest.MonkeyPatch.context() as environment,
            pipeline_fixture(definition, url, sink_url, staging, sink=definition["sink"]) as made,
        ):
            _create(made)
            runs, names = Runs(made, environment), list(made.pipeline.columns)
            _insert(made, *(row(made, number, "first", version=_INSERTED) for number in range(6)))
            _insert(made, row(made, 6, "first", version=_INSERTED, filtered="'drop'"))
            _insert(made, row(made, 7, "first", version=_INSERTED, short="'too long'"))
            kept = f"{quote_name(names[FILTERED])} <> 'drop' AND {quote_name(names[SHORT])} <> 'too long'"
            _run(runs, "first", "filter", ["extract", "filter", "load"])
            assert made.sink_rows() == made.source_rows(kept)
            assert len(made.sink_rows()) == 6

            table = quote_table(made.pipeline.source)
            made.change(f"DELETE FROM {table} WHERE {quote_name(names[OTHER])} IN (2, 3)")
            _insert(made, *(row(made, number, "second", version=_CHANGED) for number in (2, 3, 8)))
            _run(runs, "second", "run", ["run"])
            assert made.sink_rows() == made.source_rows(kept)
            assert len(made.sink_rows()) == 7
            made.clean()
            made.execute(f"DROP SCHEMA {sink_sql.quote_name(schema)}")
    finally:
        postgres.drop_database(database)


def _create(made: PipelineFixture) -> None:
    kinds = {"varchar": "text", "timestamptz": "timestamptz", "integer": "integer", "text": "text"}
    columns = ", ".join(
        f"{quote_name(name)} {kinds[column.name]} {'' if column.nullable else 'NOT NULL'}"
        for name, column in made.pipeline.types.items()
    )
    key = ", ".join(map(quote_name, made.pipeline.key))
    made.change(f"CREATE SCHEMA {quote_name(made.pipeline.source.schema_name)}")
    made.change(f"CREATE TABLE {quote_table(made.pipeline.source)} ({columns}, PRIMARY KEY ({key}))")


def _insert(made: PipelineFixture, *rows: str) -> None:
    made.change(f"INSERT INTO {quote_table(made.pipeline.source)} VALUES {', '.join(rows)}")


def _run(runs: Runs, run_id: str, judging: Step, steps: list[str]) -> None:
    """A run, and that row 7 is set aside, whole, with the reason."""
    made, partitions = runs.made, runs.plan()
    runs.steps(run_id, partitions, *steps)
    assert runs.reconcile(run_id, partitions)["verdict"] == "adds up"
    (rejected,) = (entry for partition in partitions for entry in _rejects(made, run_id, partition, judging))
    names = list(made.pipeline.columns)
    assert rejected["reason"] == f"{names[SHORT]} is longer than nvarchar(3)"
    assert list(rejected["row"]) == names
    (stands,) = made.source_rows(f"{quote_name(names[OTHER])} = 7").values()
    found = list(zip(rejected["row"].values(), map(str, stands), strict=True))
    assert all(text == expected for place, (text, expected) in enumerate(found) if place != VERSION)


def _rejects(made: PipelineFixture, run_id: str, partition: str, judging: Step) -> list[dict[str, Any]]:
    work = made.work(run_id, Partition.model_validate_json(partition))
    files = work.staging.manifest(judging, work.fingerprint).files if work.staging.has(judging) else {}
    if "rejects" not in files:
        return []
    with work.staging.reading(files["rejects"]) as file:
        return list(pq.read_table(file).to_pylist())


_HALF = len(RESERVED) // 2  # a row of all of them is more than SQL Server's 8,060 bytes


@pytest.mark.parametrize(
    "names", [OURS, RESERVED[:_HALF], RESERVED[_HALF:], ODD], ids=["ours", "reserved", "more reserved", "odd"]
)
def test_a_table_with_these_names_moves(postgres: Postgres, sink_url: str, tmp_path: Path, names: list[str]) -> None:
    moves(postgres, sink_url, tmp_path, wide(names, "staged", "t"))


printable = (
    st.lists(st.sampled_from(statements.SIGNS), min_size=1, max_size=12)
    .map(lambda signs: "".join(sign for sign in "".join(signs) if sign.isprintable()))
    .filter(lambda name: 0 < len(name.encode()) <= 63 and not re.search(r"\{[{%#]|\{$", name))
)
names_of_any_kind = st.one_of(printable, st.sampled_from(OURS), st.sampled_from(RESERVED), st.sampled_from(ODD))
plain_tables = names_of_any_kind.filter(lambda name: not name.startswith("#"))


# A smaller example would take minutes to find, and say no more.
@settings(max_examples=5, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(
    names=st.lists(names_of_any_kind, min_size=12, max_size=40, unique=True),
    schema=names_of_any_kind,
    table=plain_tables,
    pushdown=st.booleans(),
)
def test_any_table_moves_whatever_it_and_its_columns_are_called(
    postgres: Postgres, sink_url: str, tmp_path: Path, *, names: list[str], schema: str, table: str, pushdown: bool
) -> None:
    definition = wide(names, f"{uuid.uuid4().hex[:6]} {schema[:14]}", table) | {"pushdown": pushdown}
    moves(postgres, sink_url, tmp_path, definition)
