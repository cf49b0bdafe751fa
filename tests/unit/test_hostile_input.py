"""Input of a pipeline's author, a Param or a key is refused with a sentence, or is one token in every statement."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from etl import errors
from etl.model.window import Partition, Window
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dev.sandbox.pipelines import ORDERS, make
from tests.fuzz import claims as claims
from tests.fuzz.statements import SIGNS, definition

hostile = st.lists(st.sampled_from(SIGNS), min_size=1, max_size=12).map("".join)
printable = hostile.map(lambda text: "".join(sign for sign in text if sign.isprintable())).filter(bool)
FEWER = settings(max_examples=60)


@FEWER
@given(
    names=st.lists(printable, min_size=3, max_size=3, unique=True),
    schema=printable,
    table=printable,
    keys=st.tuples(hostile, hostile),
)
@example(names=["]; DROP TABLE x--", "'; DROP TABLE x--", '"; DROP'], schema="a]b", table="/*", keys=("'", "\\"))
@example(names=["é" * 31, "x" * 63, "y" * 63], schema="s" * 63, table="t" * 63, keys=("\\'", "$$"))
def test_a_name_or_key_is_one_token_in_every_statement(
    names: list[str], schema: str, table: str, keys: tuple[str, str]
) -> None:
    claims.a_name_or_key_is_one_token(names, schema, table, keys)


@FEWER
@given(
    names=st.lists(hostile, min_size=3, max_size=3),
    schema=hostile,
    table=hostile,
    more=st.dictionaries(
        st.sampled_from(
            ["name", "filter", "version", "look_back", "steps", "partition_size", "pushdown", "version_zone", "other"]
        ),
        st.one_of(hostile, st.integers(), st.none(), st.floats(), st.booleans(), st.lists(hostile, max_size=2)),
        max_size=2,
    ),
)
def test_a_pipeline_is_refused_in_words_or_survives_being_written(
    names: list[str], schema: str, table: str, more: dict[str, Any]
) -> None:
    claims.a_pipeline_is_refused_in_words_or_survives_being_written(definition(names, schema, table, **more))


@pytest.mark.parametrize(
    "twins",
    [
        ("name", "NAME"),
        ("straße", "STRASSE"),
        ("é", "e\u0301"),
        ("name", "\uff4e\uff41\uff4d\uff45"),
        ("name", "name "),
        ("ﬁ", "fi"),
    ],
)
def test_names_that_sql_server_may_take_for_one_are_refused(twins: tuple[str, str]) -> None:
    columns = {**ORDERS["columns"], **dict.fromkeys(twins, "text null")}
    with pytest.raises(ValidationError, match="which SQL Server does not tell apart"):
        make(ORDERS, columns=columns)


@pytest.mark.parametrize("sink", ["etl.watermark", "ETL.audit", "etl_staging.orders"])
def test_a_sink_in_the_loaders_own_schemas_is_refused(sink: str) -> None:
    with pytest.raises(ValidationError, match="the loader's own"):
        make(ORDERS, sink=sink)


def test_what_a_step_cannot_be_handed_is_refused() -> None:
    with pytest.raises(ValidationError, match="can be handed to a step"):
        make(ORDERS, filter=f"status IN ({', '.join(repr(str(number)) for number in range(20_000))})")
    with pytest.raises(ValidationError, match="1024 at most"):
        make(ORDERS, columns=ORDERS["columns"] | {f"c{number}": "text null" for number in range(1100)})


WORDS = """
    status amount active AND OR NOT IN ( ) , = <> < LIKE BETWEEN IS NULL true 1 -1 1.5 'a' '' + - * lower( abs(
    coalesce( /* */ -- ; SELECT FROM :: $$ E'a' U&'a' CASE END "a""]b" . :x ? @x % ||
"""


@settings(max_examples=200)
@given(text=st.lists(st.one_of(st.sampled_from(WORDS.split()), hostile), max_size=12).map(" ".join))
@example(text="active -- /*")
@example(text="active /* '; DROP TABLE orders; -- */")
@example(text="status = 'a' /* */ */ OR true")
def test_a_filter_is_refused_in_words_or_is_a_condition_of_known_words(text: str) -> None:
    claims.a_filter_is_refused_in_words_or_is_a_condition_of_known_words(text)


@FEWER
@given(text=hostile)
@example(text="a\\\nb")
@example(text="\\'; DROP TABLE orders --")
def test_a_text_in_a_filter_is_that_text_everywhere(text: str) -> None:
    claims.a_text_in_a_filter_is_that_text_everywhere(text)


@FEWER
@given(text=st.one_of(hostile, st.from_regex(r"[a-z ]{0,12}(\([0-9 ,]{0,12}\))?( null)?")))
@example(text=f"varchar({'9' * 5000})")
@example(text="varchar(\u0663)")
def test_a_column_type_is_refused_in_words_or_is_written_the_same_again(text: str) -> None:
    claims.a_column_type_is_refused_in_words_or_is_written_the_same_again(text)


times = st.one_of(
    hostile,
    st.none(),
    st.integers(),
    st.booleans(),
    st.lists(hostile, max_size=1),
    st.datetimes(timezones=st.timezones()).map(lambda value: value.isoformat()),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "x" * 10**6]),
)


@FEWER
@given(
    params=st.dictionaries(
        st.sampled_from(["since", "until", "full_refresh", "accept_older_versions", "other"]), times
    ),
    watermark=st.one_of(st.none(), st.datetimes().map(lambda value: value.replace(tzinfo=UTC))),
    look_back=st.timedeltas(timedelta(0), timedelta(days=36500)),
)
@example(params={"since": "0001-01-01T00:00:00+14:00"}, watermark=None, look_back=timedelta(0))
@example(params={}, watermark=datetime(1, 1, 1, tzinfo=UTC), look_back=timedelta(days=1))
def test_params_are_refused_in_words_or_choose_a_window(
    params: dict[str, Any], watermark: datetime | None, look_back: timedelta
) -> None:
    claims.params_are_refused_in_words_or_choose_a_window(params, watermark, look_back)


@FEWER
@given(keys=st.lists(hostile.filter(lambda text: "\ud800" not in text), max_size=2))
def test_a_partition_survives_being_written(keys: list[str]) -> None:
    partition = Partition(window=Window(high=claims.NOW), lower=keys)
    claims.a_partition_is_refused_in_words_or_survives_being_written(partition.model_dump_json())


@FEWER
@given(user=hostile, host=hostile, rest=hostile)
def test_a_url_is_refused_without_showing_it_or_names_one_server(user: str, host: str, rest: str) -> None:
    claims.a_url_is_refused_without_showing_it_or_names_one_server(f"mssql://{user}@{host}/{rest}")


@given(text=st.one_of(hostile, st.text(max_size=2000)))
def test_what_messages_show_is_short_and_on_one_line(text: str) -> None:
    assert errors.printable(text).isprintable()
    assert len(errors.printable(text)) <= 2100
    assert errors.printable("Ada Ж. 漢 🚚") == "Ada Ж. 漢 🚚"
