"""Sensitive columns are declared with the pipeline; a mask distinguishes values and does not show them."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from etl.config.settings import Settings, read_settings
from etl.errors import ConfigurationError
from etl.model.masking import Mask, WithheldError
from etl.model.window import Partition, fingerprint
from etl.sqlserver.errors import explain
from pydantic import SecretStr, ValidationError

from dev.sandbox.pipelines import EVERYTHING, ORDERS, make, whole

KEY = "sixteen or more characters"
PEOPLE = make(ORDERS, sensitive=["customer", "note"])


def test_a_value_of_a_sensitive_column_is_masked_and_others_are_shown() -> None:
    mask = Mask(PEOPLE, KEY)
    assert mask.value("customer", "Ada") == mask.value("customer", "Ada") != mask.value("customer", "Eve")
    assert "Ada" not in mask.value("customer", "Ada")
    assert mask.value("order_id", 7) == "7"
    assert mask.row([7]) == "order_id=7"
    assert Mask(make(ORDERS, sensitive=["order_id"]), KEY).row([7]).startswith("order_id=masked:")


def test_another_key_makes_another_mask_and_none_makes_all_alike() -> None:
    """Without a secret in it a hash of a name, or of a number, could be guessed."""
    assert Mask(PEOPLE, KEY).value("customer", "Ada") != Mask(PEOPLE, KEY + "!").value("customer", "Ada")
    assert {Mask(PEOPLE).value("customer", name) for name in ("Ada", "Eve")} == {"masked"}


@pytest.mark.parametrize(
    ("column", "forms"),
    [
        ("serial", [UUID("0A1B2C3D-0000-0000-0000-00000000000A"), "0a1b2c3d-0000-0000-0000-00000000000a",
                    "0A1B2C3D-0000-0000-0000-00000000000A"]),
        ("money", [Decimal("1.50"), "1.5", "1.5000000000"]),
        ("code", ["ab  ", "ab"]),
        ("local", [datetime(2026, 1, 2, 3), "2026-01-02 03:00:00", "2026-01-02T03:00:00.000000"]),
        ("moment", [datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02 03:00:00+00", "2026-01-02T03:00:00",
                    datetime(2026, 1, 2, 4, tzinfo=timezone(timedelta(hours=1)))]),
        ("text", ["infinity"]),
        ("money", ["NaN"]),
        ("moment", ["infinity"]),
    ],
)  # fmt: skip
def test_a_value_has_one_mask_in_whatever_form_a_database_writes_it(column: str, forms: list[Any]) -> None:
    mask = Mask(make(EVERYTHING, sensitive=["serial", "money", "code", "moment", "text"]), KEY)
    assert len({mask.masked(column, form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("sensitive", "told"),
    [
        (["colour"], "sensitive: 'colour' is not among the columns"),
        (["note", "note"], "sensitive: a column is named twice"),
        (["updated_at"], "sensitive: 'updated_at' is the version, which windows, the watermark and the audit show"),
        ("note", "valid list"),
    ],
)
def test_what_cannot_be_sensitive_is_refused_when_the_pipeline_is_declared(sensitive: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make(ORDERS, sensitive=sensitive)


def test_a_run_under_way_goes_on_when_a_column_becomes_sensitive() -> None:
    """Which rows it moves does not change."""
    assert fingerprint(PEOPLE, whole()) == fingerprint(make(ORDERS), whole())
    shares = [fingerprint(PEOPLE, Partition(window=whole().window, share=(place, 2))) for place in (0, 1)]
    assert len({*shares, fingerprint(PEOPLE, whole())}) == 3


@pytest.mark.parametrize(
    "words",
    [
        'invalid input syntax for type bigint: "Ada"',
        "ungültige Eingabesyntax für Typ bigint: »Ada«",
        "The duplicate key value is (Ada).",
        "Conversion failed when converting the nvarchar value 'it''s Ada' to data type int.",
        "Could not convert string 'a' Ada' to INT32",
    ],
)
def test_what_a_server_quotes_is_left_out(words: str) -> None:
    assert "Ada" not in Mask(PEOPLE).words(words)
    assert (
        Mask(PEOPLE).words(words)
        == f"{words.split('(')[0].split(chr(39))[0].split(chr(34))[0].split('»')[0].rstrip()} …"
    )
    assert Mask(make(ORDERS)).words(words) == words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Arithmetic overflow error for data type smallint, value = 70000.",
         "Arithmetic overflow error for data type smallint, value …"),
        ("Conversion Error: Type INT64 with value -70000 can't be cast because the value is out of range",
         "Conversion Error: Type INT64 with value …"),
        ("Conversion Error: Date out of range: 1957-12-31", "Conversion Error: Date out of range: …"),
        ("value overflows numeric format", "value overflows numeric format"),
    ],
)  # fmt: skip
def test_values_that_a_server_does_not_quote_are_left_out_too(words: str, told: str) -> None:
    assert Mask(PEOPLE).words(words) == told
    assert Mask(make(ORDERS)).words(words) == words


@pytest.mark.parametrize(
    ("number", "words", "told"),
    [
        (2627, "Violation of PRIMARY KEY constraint 'pk'. The duplicate key value is (Ada).",
         "Violation of PRIMARY KEY constraint … (error 2627)"),
        (220, "Arithmetic overflow error for data type smallint, value = 70000.",
         "Arithmetic overflow error for data type smallint, value … (error 220)"),
        (50001, "Ada is not wanted", "Error 50001, whose words are withheld"),
        (208, "Invalid object name 'dbo.orders'.", "Invalid object name 'dbo.orders'."),
        (1205, "Transaction (Process ID 5) was deadlocked.", "Transaction (Process ID 5) was deadlocked."),
    ],
)  # fmt: skip
def test_what_sql_server_says_of_rows_is_left_out_and_of_tables_is_not(number: int, words: str, told: str) -> None:
    error = RuntimeError(f"Sql Error: {number}: [SQL Server]{words}")
    error.sink_numbers = [number]  # type: ignore[attr-defined]
    assert explain(error, [], Mask(PEOPLE)).words.startswith(told)
    assert words in explain(error, [], Mask(make(ORDERS))).words


def test_an_error_that_was_not_foreseen_keeps_its_kind_and_loses_its_words() -> None:
    told = str(WithheldError(duckdb.ConversionException("Ada")))
    assert "ConversionException" in told
    assert "Ada" not in told


def test_the_key_is_a_secret_and_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEY in Settings(mask_key=SecretStr(KEY)).secrets()
    assert KEY not in repr(Settings(mask_key=SecretStr(KEY)))
    monkeypatch.setenv("MASK_KEY", "short")
    with pytest.raises(ConfigurationError, match=r"MASK_KEY: .* at least 16") as caught:
        read_settings()
    assert "short" not in str(caught.value)


def test_the_documents_example_is_right() -> None:
    text = (Path(__file__).parents[2] / "docs" / "personal-data.md").read_text()
    assert f"`{Mask(PEOPLE, 'an example of a key').value('customer', 'Ada')}`" in text


def mask_command(column: str, text: bytes) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "etl", "mask", "--pipeline", PEOPLE.model_dump_json(), "--column", column]
    environment = {**os.environ, "MASK_KEY": KEY, "PYTHONUTF8": "1"}
    return subprocess.run(command, input=text, env=environment, capture_output=True, check=False)


def test_the_command_prints_the_masks_of_candidates_a_line_each() -> None:
    ran = mask_command("customer", "Ada\nJürgen\n".encode())
    assert ran.stdout.decode().splitlines() == [Mask(PEOPLE, KEY).value("customer", name) for name in ("Ada", "Jürgen")]
    assert b"has no column colour" in mask_command("colour", b"Ada\n").stderr
    broken = mask_command("customer", b"Ada \xe9\n")
    assert b"Ada" not in broken.stderr + broken.stdout
