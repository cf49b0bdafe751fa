"""The tests' T-SQL evaluator decides as Microsoft documents it, and refuses all else."""

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.doubles.tsql.evaluator import read_condition
from tests.doubles.tsql.types import TsqlError, Type, arithmetic

COLUMNS = {
    "bit": "bit", "small": "smallint", "n": "int", "big": "bigint", "d": "decimal(9,2)", "exact": "decimal(20,10)",
    "t": "nvarchar(10)", "long": "nvarchar(4000)", "c": "nchar(5)", "id": "uniqueidentifier", "day": "date",
    "at": "datetime2(6)", "f": "float(53)", "nothing": "int",
}  # fmt: skip
ROW: dict[str, Any] = {
    "bit": True, "small": 32767, "n": 2147483647, "big": 2**63 - 1, "d": Decimal("1.50"), "exact": Decimal("0.1"),
    "t": "a ", "long": "x" * 4000, "c": "EUR", "id": uuid.UUID("7fffffff-0000-0000-0000-000000000002"),
    "day": date(2026, 1, 31), "at": datetime(2026, 1, 31), "f": 0.5, "nothing": None,
}  # fmt: skip
BINARY = "COLLATE Latin1_General_BIN2"


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        # Three values: https://learn.microsoft.com/sql/t-sql/language-elements/null-and-unknown-transact-sql
        ("[nothing] = 1", None),
        ("NOT [nothing] = 1", None),
        ("[nothing] = 1 OR [bit] = 1", True),
        ("[nothing] = 1 AND [bit] = 0", False),
        ("[n] IN (1, [nothing])", None),
        ("NOT [n] IN (2147483647, [nothing])", False),
        ("[bit] = 1 OR [bit] = 0 AND [bit] = 0", True),
        # The shorter text is padded: https://support.microsoft.com/kb/316626; LIKE takes notice of blanks in Unicode.
        (f"[t] {BINARY} = N'a'", True),
        (f"[t] {BINARY} + N'|' = N'a|'", False),
        (f"[t] {BINARY} LIKE N'a'", False),
        (f"[c] {BINARY} LIKE N'%R'", False),
        (f"RTRIM([c]) {BINARY} LIKE N'%R'", True),
        # Without COLLATE a comparison takes no notice of case, in most databases.
        ("[c] = N'eur'", True),
        (f"[c] {BINARY} = N'eur'", False),
        # Without N a text goes through the code page: a Cyrillic letter becomes a question mark.
        ("'Д' = '?'", True),
        (f"N'Д' {BINARY} = N'?'", False),
        # A result of over 8,000 bytes is cut unless an operand is of a large type.
        (f"[long] {BINARY} + N'|' = [long]", True),
        (f"CAST([long] {BINARY} AS nvarchar(max)) + N'|' = [long]", False),
        # uniqueidentifier: the last six bytes count first.
        ("[id] > CAST(N'00000000-0000-0000-0000-000000000003' AS uniqueidentifier)", False),
        ("[id] > CAST(N'ffffffff-0000-0000-0000-000000000001' AS uniqueidentifier)", True),
        # Precedence: the text becomes what it is compared with, the date becomes a datetime2, the int a decimal.
        ("[n] = N'2147483647'", True),
        ("[day] = [at]", True),
        ("[n] + 1.5 > [big]", False),
        ("[d] = 1.5", True),
        ("TRANSLATE([c] COLLATE Latin1_General_BIN2, N'EU', N'eu') = N'euR'", True),
        ("CAST(ABS(-[d]) AS decimal(9,2)) BETWEEN 1 AND 1.5", True),
        ("[f] = CAST(1 AS float(53)) / CAST(2 AS float(53))", True),
    ],
)
def test_a_condition_has_the_documented_outcome(condition: str, outcome: bool | None) -> None:
    assert read_condition(condition, COLUMNS)(ROW) is outcome


@pytest.mark.parametrize(
    ("condition", "number"),
    [
        ("[bit]", 4145),
        ("[bit] = 1 AND ([bit])", 4145),
        ("NOT ([bit])", 4145),
        ("[bit] > (1 = 0)", 102),
        ("[bit] = true", 102),
        ("[bit] = 1 [bit]", 102),
        ("[bit] = 1 -- and so on", 102),
        ("[missing] = 1", 207),
        ("[n] = [day]", 206),
        ("[id] = 5", 206),
        ("[n] + 1 > 5", 8115),
        ("CAST([n] AS decimal(9,0)) > 5", 8115),
        ("[n] = N'five'", 245),
        ("[day] = N'infinity'", 241),
        ("CAST(N'24:00:00' AS time(6)) = CAST(N'00:00:00' AS time(6))", 241),
        ("[id] = N'no uuid'", 8169),
        (f"[t] {BINARY} = [c] COLLATE Latin1_General_CI_AS", 468),
        # Not documented: how a number is rounded, and what LOWER does to all letters.
        ("[f] > 0.1", 0),
        ("[f] > 0.1E0", 0),
        (f"LOWER([t] {BINARY}) = N'a'", 0),
    ],
)
def test_an_error_has_the_documented_number(condition: str, number: int) -> None:
    with pytest.raises(TsqlError) as caught:
        read_condition(condition, COLUMNS)(ROW)
    assert caught.value.number == number


@pytest.mark.parametrize(
    ("operator", "a", "b", "result"),
    [
        ("+", (9, 2), (1, 0), (10, 2)),
        ("-", (9, 2), (20, 10), (21, 10)),
        ("*", (9, 2), (1, 0), (11, 2)),
        ("*", (20, 10), (20, 10), (38, 17)),
        ("*", (38, 0), (38, 0), (38, 0)),
        ("+", (38, 10), (38, 0), (38, 0)),
    ],
)
def test_decimals_have_the_documented_digits(
    operator: str, a: tuple[int, int], b: tuple[int, int], result: tuple[int, int]
) -> None:
    assert arithmetic(operator, Type("decimal", *a), Type("decimal", *b)) == Type("decimal", *result)


def test_a_product_is_rounded_where_its_digits_are_too_many() -> None:
    row = {"exact": Decimal("0.0000000001")}
    assert read_condition("[exact] * [exact] = 0", COLUMNS)(row) is True
