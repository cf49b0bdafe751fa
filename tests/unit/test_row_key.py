"""A row's key as typed by a person: read exactly, and refused if it is no key of that type."""

import pytest
from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline
from etl.model.row_key import RowKey

from dev.sandbox.pipelines import ORDERS, make

LONG = "123456789012345678901234567890123456.78"
"""As many digits as numeric has in SQL Server."""


def keyed_by(kind: str) -> Pipeline:
    return make(ORDERS, columns={**ORDERS["columns"], "order_id": kind})


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        ("bigint", "+0013", "13"),
        ("bigint", "[13]", "13"),
        ("numeric(38,2)", LONG, LONG),
        ("numeric(38,2)", f"[{LONG}0]", LONG),
        ("numeric(38,2)", "-0012.50", "-12.5"),
        ("numeric(2,2)", "0.00", "0"),
        ("numeric(20,2)", "100", "100"),
        ("uuid", "{0A1B2C3D00000000000000000000000A}", "0a1b2c3d-0000-0000-0000-00000000000a"),
        ("date", "19571231", "1957-12-31"),
        ("timestamptz", "2026-01-02 03:00+01", "2026-01-02T02:00:00"),
        ("varchar(9)", '["a"', '["a"'),
        ("varchar(9)", "[null]", "[null]"),
    ],
)
def test_a_key_has_one_text_however_it_is_written(kind: str, written: str, meant: str) -> None:
    assert RowKey(keyed_by(kind), written).texts == [meant]


@pytest.mark.parametrize("written", ["1.555", "10000000000", "1e400000000", "NaN", "inf", "", "1,5"])
def test_a_number_that_a_server_would_round_to_the_key_of_another_row_is_refused(written: str) -> None:
    with pytest.raises(ConfigurationError, match=r"what was given for order_id is no numeric\(12,2\)"):
        RowKey(keyed_by("numeric(12,2)"), written)


def test_of_a_pipeline_without_a_key_no_row_can_be_named() -> None:
    pipeline = make(ORDERS, key=[], mode="replace", version=None, deletes="delete")
    with pytest.raises(ConfigurationError, match=r"orders has no key, so no row can be named: delete it at the source"):
        RowKey(pipeline, "[]")
