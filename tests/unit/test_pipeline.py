"""A pipeline refuses what is unknown or contradictory, naming the field."""

from typing import Any

import pytest
from etl.model.pipeline import Pipeline
from etl.model.window import fingerprint
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dev.sandbox.pipelines import EVERYTHING, ORDERS, make, whole


@pytest.mark.parametrize("definition", [ORDERS, EVERYTHING])
def test_a_pipeline_survives_being_written_as_json(definition: dict[str, Any]) -> None:
    pipeline = make(definition)
    assert Pipeline.model_validate_json(pipeline.model_dump_json()) == pipeline


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colums": {}}, "colums"),
        ({"name": "Orders; DROP"}, "name"),
        ({"source": "orders"}, "must name the schema"),
        ({"columns": {}}, "columns"),
        (
            {"columns": {**ORDERS["columns"], "amount": "mood"}},
            "column amount: 'mood' is none of the types that may be declared",
        ),
        ({"columns": {**ORDERS["columns"], "amount": "numeric"}}, "column amount: 'numeric' has no precision"),
        ({"columns": {**ORDERS["columns"], "AMOUNT": "bigint"}}, "differ in case only"),
        ({"key": []}, 'key: it is empty; a table without one can be loaded with mode="replace"'),
        ({"key": ["id"]}, "key: 'id' is not among the columns"),
        ({"key": ["note"]}, "key: 'note' may not be null"),
        ({"key": ["order_id", "order_id"]}, "key: a column is named twice"),
        ({"version": "nope"}, "version: 'nope' is not among the columns"),
        ({"version": "amount"}, "version: 'amount' is numeric(12,2)"),
        ({"filter": "status ="}, "filter"),
        ({"filter": "state = 'confirmed'"}, "filter: unknown column state"),
        ({"filter": "status LIKE '{%'"}, "would take them for a template"),
        ({"look_back": -1}, "look_back"),
        ({"version_zone": "UTC"}, "version_zone: 'updated_at' is a timestamptz, which needs none"),
        (
            {"version": "order_id", "key": ["customer"], "look_back": "PT1M"},
            "the version is a number, so this is a count",
        ),
        (
            {"version": "order_id", "key": ["customer"], "version_zone": "UTC"},
            "'order_id' is a bigint, which needs none",
        ),
        ({"unreachable_versions": "ignore"}, "unreachable_versions"),
        ({"partition_size": 0}, "partition_size"),
        ({"tolerated_rejects": -1}, "tolerated_rejects"),
        ({"steps": "all"}, "steps"),
        ({"version": None}, 'version: there is none; a table without one can be loaded with mode="replace"'),
        ({"mode": "replace"}, "version: mode replace reads the whole table each time and needs none"),
        ({"mode": "replace", "version": None, "key": []}, 'rows are replaced as a whole, which is deletes="delete"'),
        ({"mode": "replace", "version": None, "version_zone": "UTC"}, "version_zone: there is no version"),
        ({"deletes_every": 60}, "deletes_every: deletes is keep"),
        ({"most_deleted": 0.1}, "most_deleted: deletes is keep"),
        ({"deletes": "delete", "most_deleted": 1.5}, "most_deleted"),
        ({"mark_column": "gone_at"}, "mark_column: deletes is keep, so no row is marked"),
        ({"deletes": "mark", "mark_column": "NOTE"}, "mark_column: 'NOTE' is among the columns"),
        (
            {"mode": "replace", "version": None, "deletes": "delete", "deletes_every": 60},
            "deletes_every: mode replace compares all rows in each run",
        ),
        ({"omit": ["x"]}, "omit: on_new_source_column is ignore"),
        ({"omit": ["note"], "on_new_source_column": "add"}, "omit: 'note' is among the columns"),
        ({"mode": "append", "on_new_source_column": "add"}, "on_new_source_column: mode append changes no row"),
        ({"filter": "amount = 'abc'"}, "filter: 'amount = 'abc'': a number is written without quotes"),
    ],
)
def test_a_contradiction_is_refused_with_the_name_of_the_field(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make(ORDERS, **changes)
    assert told in str(caught.value)


def test_a_key_that_sql_server_cannot_index_is_refused() -> None:
    columns = {**ORDERS["columns"], "customer": "text"}
    with pytest.raises(ValidationError, match="which SQL Server cannot index"):
        make(ORDERS, columns=columns, key=["customer"])


def declared(types: dict[str, str], key: list[str]) -> Pipeline:
    """A pipeline of these columns beside those of orders."""
    return make(ORDERS, columns={**ORDERS["columns"], **types}, key=key)


@pytest.mark.parametrize(
    ("types", "told"),
    [
        ({"a": "varchar(451)"}, "key: it may have 902 bytes (a varchar(451): 902)"),
        ({"a": "varchar(400)", **{f"u{number}": "uuid" for number in range(7)}}, "key: it may have 912 bytes"),
        ({"a": "char(300)", "b": "varchar(151)"}, "key: it may have 902 bytes (a char(300): 600, b varchar(151): 302)"),
        ({"a": "varchar(442)", "n": "numeric(29,0)"}, "n numeric(29,0): 17"),
        (
            {f"i{number}": "integer" for number in range(33)},
            "key: it has 33 columns; an index key of SQL Server has 32",
        ),
    ],
)
def test_a_key_that_a_clustered_index_cannot_hold_is_refused(types: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        declared(types, list(types))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "types",
    [
        {"a": "varchar(450)"},
        {"a": "varchar(400)", **{f"u{number}": "uuid" for number in range(6)}},
        {"a": "varchar(443)", "d": "date", "n": "numeric(19,4)", "s": "smallint"},
        {f"i{number}": "integer" for number in range(32)},
    ],
)
def test_a_key_that_just_fits_is_taken(types: dict[str, str]) -> None:
    declared(types, list(types))


def test_a_row_that_is_too_long_whatever_is_in_it_is_refused() -> None:
    """As SQL Server counts: fixed sizes, eight booleans a byte, a bit for each column to be null, and six bytes."""
    three = {"a": "char(2000)", "b": "char(2000)", "c": "char(2000)"}
    with pytest.raises(
        ValidationError, match=r"each row 12\d\d\d bytes long \(a char\(2000\): 4000, b char.* has 8060"
    ):
        declared(three, ["order_id"])
    fits = {"id": "integer", "at": "timestamptz", "a": "char(2000)", "b": "char(2000) null", "c": "char(20)"}  # 8059
    own = {"key": ["id"], "version": "at", "filter": "true"}
    make(ORDERS, columns={**fits, "one": "boolean", "long": "varchar(4000)", "longer": "text null"}, **own)
    with pytest.raises(ValidationError, match="make each row 8061 bytes long"):
        make(ORDERS, columns={**fits, **{f"is{number}": "boolean null" for number in range(8)}}, **own)
    with pytest.raises(ValidationError, match="make each row"):
        declared({f"u{number}": "uuid null" for number in range(600)}, ["order_id"])


@pytest.mark.parametrize(
    ("sink", "schema", "table"),
    [
        ("dbo.orders", "dbo", "orders"),
        ("[dbo].[orders]", "dbo", "orders"),
        ('"dbo"."orders"', "dbo", "orders"),
        ("dbo.[a.b]", "dbo", "a.b"),
        ("[a]]b].[[c]", "a]b", "[c"),
        ('"a""b".[x"y]', 'a"b', 'x"y'),
        ("dbo.Every Thing", "dbo", "Every Thing"),
        ("dbo." + "x" * 128, "dbo", "x" * 128),
    ],
)
def test_a_sink_is_named_as_in_sql_server(sink: str, schema: str, table: str) -> None:
    assert make(ORDERS, sink=sink).sink.model_dump() == {"schema_name": schema, "table": table}


@pytest.mark.parametrize(
    ("source", "schema", "table"),
    [
        ("public.orders", "public", "orders"),
        ("public.Every Thing", "public", "Every Thing"),
        ("public.Orders", "public", "Orders"),
        ("public.a.b", "public", "a.b"),
        ('"public"."Every ""Thing"', "public", 'Every "Thing'),
        ('public."a.b"', "public", "a.b"),
        ('"a.b".c', "a.b", "c"),
        ("public.[x]", "public", "[x]"),
    ],
)
def test_a_source_is_named_as_in_postgres_or_plainly(source: str, schema: str, table: str) -> None:
    assert make(ORDERS, source=source).source.model_dump() == {"schema_name": schema, "table": table}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sink": "orders"}, "'orders' must name the schema too, for example dbo.orders"),
        ({"sink": "db.dbo.t"}, "'db.dbo.t' has three parts; write schema and table alone: SINK_URL names the database"),
        ({"sink": "[db].[dbo].[t]"}, "has three parts"),
        ({"sink": "db..t"}, "has three parts"),
        ({"sink": "[dbo].[t"}, "begins with [ and has no ] at the end of the name"),
        ({"sink": "[dbo]x.t"}, "begins with [ and has no ] at the end of the name"),
        ({"sink": ".t"}, "'' is not a name that SQL Server can have"),
        ({"sink": "dbo." + "x" * 129}, "is not a name that SQL Server can have (1 to 128 characters, printable)"),
        ({"sink": "dbo.#x"}, "would be a temporary table"),
        ({"sink": "[dbo].[##x]"}, "would be a temporary table"),
        ({"sink": "sys.x"}, "the schema sys is SQL Server's own"),
        ({"sink": "Information_Schema.x"}, "is SQL Server's own"),
        ({"sink": "guest.x"}, "is SQL Server's own"),
        ({"source": '"db"."public"."t"'}, "has three parts; write schema and table alone: SOURCE_URL names"),
        ({"source": 'public."t'}, 'has no " at the end of the name'),
        ({"source": "public." + "x" * 64}, "is not a name that Postgres can have"),
    ],
)
def test_what_names_no_table_is_refused_in_words(changes: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make(ORDERS, **changes)
    assert told in str(caught.value)


names = st.text(st.sampled_from('ab.[]" é'), min_size=1, max_size=6)


@given(schema=names, table=names)
def test_a_table_is_printed_so_that_it_is_read_as_the_same(schema: str, table: str) -> None:
    given_as = {"schema_name": schema, "table": table}
    pipeline = make(ORDERS, source=given_as, sink=given_as)
    assert make(ORDERS, source=str(pipeline.source), sink=str(pipeline.sink)) == pipeline


def test_a_known_definition_keeps_its_fingerprint() -> None:
    """Else runs that are under way while the version changes would fail."""
    assert fingerprint(make(ORDERS), whole()) == "42a59189d31f5700"
    assert fingerprint(make(EVERYTHING), whole()) == "fe50c071df4f22e7"
    assert fingerprint(make(ORDERS, sink="[dbo].[orders]", source='"public"."orders"'), whole()) == "42a59189d31f5700"


LOCAL = {**ORDERS, "columns": {**ORDERS["columns"], "updated_at": "timestamp"}}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "Asia/Kolkata", "America/Sao_Paulo", "Etc/GMT-3", "Etc/GMT+12"])
def test_a_version_may_be_local_time_of_a_zone_whose_clock_is_not_put_back(zone: str) -> None:
    assert make(LOCAL, version_zone=zone).version_zone == zone


@pytest.mark.parametrize(
    "zone", ["America/New_York", "Europe/London", "Australia/Lord_Howe", "Africa/Casablanca", "America/Santiago"]
)
def test_a_zone_whose_clock_is_put_back_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match=f"version_zone: '{zone}': the clock of .* make the column a timestamptz"):
        make(LOCAL, version_zone=zone)


@pytest.mark.parametrize("zone", ["", "JST+9", "Asia", "Asia/Nowhere", "../UTC", "localtime", "/etc/localtime", "A\0"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="it is not the name of a time zone"):
        make(LOCAL, version_zone=zone)


def test_pipelines_that_spell_one_sink_table_differently_have_one_lock() -> None:
    assert make(ORDERS, sink="DBO.Orders").sink_identity == make(ORDERS, sink="dbo.orders").sink_identity
    assert make(ORDERS, sink="dbo.orders").sink_identity != make(ORDERS, sink="dbo.order").sink_identity


@pytest.mark.parametrize(("given", "wanted"), [({}, 1000), ({"look_back": 0}, 0), ({"look_back": 5}, 5)])
def test_the_look_back_of_a_number_is_a_count(given: dict[str, Any], wanted: int) -> None:
    pipeline = make(ORDERS, columns={**ORDERS["columns"], "updated_at": "integer"}, **given)
    assert pipeline.look_back == wanted
    assert Pipeline.model_validate_json(pipeline.model_dump_json()) == pipeline


@pytest.mark.parametrize(
    ("beyond", "told"),
    [
        ({"nope": "null"}, "'nope' is not among the columns"),
        ({"note": "null"}, "'note' is text null, which has no value out of range; leave it away"),
        ({"updated_at": "edge"}, "'updated_at' is of the key or the version, whose values stay as they are"),
        ({"status": "edge"}, "'status' is varchar(16), which has no value out of range"),
        ({"amount": "null"}, "says null for 'amount', but the column is NOT NULL; declare it 'numeric(12,2) null'"),
        ({"amount": "edge"}, "the filter reads 'amount', and would decide about the changed value"),
    ],
)
def test_a_value_out_of_range_is_changed_only_where_nothing_depends_on_it(beyond: dict[str, str], told: str) -> None:
    reads = "amount > 5" if beyond.get("amount") == "edge" else ORDERS["filter"]
    with pytest.raises(ValidationError) as caught:
        make(ORDERS, beyond=beyond, filter=reads)
    assert told in str(caught.value)
