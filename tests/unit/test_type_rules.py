"""A value either fits the sink's type exactly or is rejected; a converted one equals the original."""

import uuid
from datetime import date, datetime, time
from decimal import Decimal, localcontext
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from etl.model.column_types import parse_column_type
from etl.steps.type_rules import breach, converted
from hypothesis import example, given
from hypothesis import strategies as st


def judge(declared: str, staged: pa.Array, is_key: bool = False) -> tuple[Any, str | None]:
    """The converted value of a staged one, and what is wrong with it."""
    column = parse_column_type(declared)
    check = breach("v", "v", column, is_key) or "NULL"
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        engine.register("staged", pa.table({"v": staged}))
        row = engine.execute(f"SELECT {converted('v', column)}, {check} FROM staged").fetchone()
    assert row is not None
    return row


digits = st.text("0123456789", max_size=40)


@given(negative=st.booleans(), whole=digits, fraction=digits, precision=st.integers(1, 38), data=st.data())
def test_a_decimal_is_carried_exactly_or_told(
    negative: bool, whole: str, fraction: str, precision: int, data: st.DataObject
) -> None:
    scale = data.draw(st.integers(0, precision))
    # As Postgres writes a numeric: no leading zeros, but zeros at the end as its scale has them.
    text = ("-" if negative else "") + (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    found, wrong = judge(f"numeric({precision},{scale})", pa.array([text]))
    with localcontext() as context:
        context.prec = 100
        value = Decimal(text)
        fits = abs(value) < Decimal(10) ** (precision - scale) and value == round(value, scale)
    if fits:
        assert (found, wrong) == (value, None)
    else:
        assert wrong == f"v is not exactly a decimal({precision},{scale})"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_numeric_that_is_no_number_is_told(text: str) -> None:
    assert judge("numeric(38,10)", pa.array([text])) == (None, "v is not exactly a decimal(38,10)")


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), length=st.integers(1, 12))
def test_text_is_carried_whole_or_told(text: str, length: int) -> None:
    found, wrong = judge(f"varchar({length})", pa.array([text]))
    if len(text.encode("utf-16-le")) // 2 <= length:
        assert (found, wrong) == (text, None)
    else:
        assert wrong == f"v is longer than nvarchar({length})"


@given(micros=st.integers(-(2**62), 2**62))
@example(micros=-9222425352054775809)  # what the driver makes of 'infinity'
@example(micros=-9222425352054775808)  # and of '-infinity'
def test_a_time_is_within_the_years_of_sql_server_or_told(micros: int) -> None:
    for kind, declared in ((pa.timestamp("us", "UTC"), "timestamptz"), (pa.timestamp("us"), "timestamp")):
        found, wrong = judge(declared, pa.array([micros], pa.int64()).cast(kind))
        if -62135596800000000 <= micros <= 253402300799999999:
            assert wrong is None
            assert isinstance(found, datetime)
            assert found.tzinfo is None
        else:
            assert wrong == "v is outside the years 1 to 9999"


@pytest.mark.parametrize(
    ("declared", "value", "told"),
    [
        ("text", pa.array([None], pa.string()), "v is null but required"),
        ("real", pa.array([float("nan")], pa.float32()), "v is not a finite number"),
        ("double precision", pa.array([float("inf")]), "v is not a finite number"),
        ("date", pa.array([2932897], pa.int32()).cast(pa.date32()), "v is outside the years 1 to 9999"),
        ("date", pa.array([-2147472692], pa.int32()).cast(pa.date32()), "v is outside the years 1 to 9999"),
        ("time", pa.array([86_400_000_000], pa.time64("us")), "v is 24:00:00, which SQL Server's time does not have"),
        ("char(2)", pa.array(["😀😀"]), "v is longer than nchar(2)"),
    ],
)
def test_what_sql_server_does_not_have_is_told(declared: str, value: pa.Array, told: str) -> None:
    assert judge(declared, value)[1] == told


def test_a_key_that_ends_in_a_space_is_told() -> None:
    assert judge("varchar(9)", pa.array(["a "]), is_key=True)[1] == (
        "v ends in a space, which SQL Server does not tell apart in a key"
    )
    assert judge("varchar(9)", pa.array(["a "])) == ("a ", None)
    assert judge("char(3)", pa.array(["a  "]), is_key=True) == ("a", None)


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("smallint null", pa.array([-32768], pa.int16()), -32768),
        ("bigint", pa.array([2**63 - 1]), 2**63 - 1),
        ("bigint", pa.array([7], pa.int32()), 7),
        ("boolean", pa.array([False]), False),
        ("text", pa.array([""]), ""),
        ("text null", pa.array([None], pa.string()), None),
        ("uuid", pa.array([uuid.UUID(int=7).bytes], pa.uuid()), uuid.UUID(int=7)),
        ("date", pa.array([date(9999, 12, 31)]), date(9999, 12, 31)),
        ("time", pa.array([time(23, 59, 59, 999999)]), time(23, 59, 59, 999999)),
        ("bytea", pa.array([b"\0\xff"]), b"\0\xff"),
        ("numeric(3,1)", pa.array(["-12.300"]), Decimal("-12.3")),
    ],
)
def test_what_fits_is_carried(declared: str, value: pa.Array, expected: object) -> None:
    assert judge(declared, value) == (expected, None)
