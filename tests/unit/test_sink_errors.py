"""The table of SQL Server's errors says one thing of each number."""

from etl import sink_errors
from etl.errors import TryAgainError


def test_a_number_has_one_kind() -> None:
    tables = (sink_errors.CONFIGURATION, sink_errors.DATA, sink_errors.TRY_AGAIN)
    assert sum(map(len, tables)) == len({number for table in tables for number in table})


def test_advice_is_sentences() -> None:
    for table in (sink_errors.CONFIGURATION, sink_errors.DATA, sink_errors.TRY_AGAIN):
        assert {advice[-1:] for advice in table.values()} <= {"", "."}


def test_the_first_known_number_decides_and_an_unknown_one_is_tried_again() -> None:
    assert sink_errors.numbers(RuntimeError("Sql Error: 2627: Class 14: State 1: x")) == [2627]
    assert sink_errors.numbers(RuntimeError("connection reset")) == []
    error = RuntimeError("Sql Error: 17: Class 16: State 1: x")
    assert sink_errors.explain(error, []).kind is TryAgainError
