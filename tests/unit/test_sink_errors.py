"""SQL Server's errors are sorted by number, and a login that fails by what else is known of it."""

import mssql_python
import pytest
from etl.errors import ConfigurationError, EtlError, TryAgainError
from etl.sqlserver import errors as sink_errors

TABLES = (sink_errors.CONFIGURATION, sink_errors.DATA, sink_errors.TRY_AGAIN)


def test_a_number_has_one_kind_and_advice_is_sentences() -> None:
    assert sum(map(len, TABLES)) == len({number for table in TABLES for number in table})
    assert {advice[-1:] for table in TABLES for advice in table.values()} == {"", "."}


@pytest.mark.parametrize(
    ("told", "numbers", "kind"),
    [
        ("Sql Error: 229: Class 14: State 1: The INSERT permission was denied.", [229], ConfigurationError),
        ("Sql Error: 17: Class 16: State 1: A number that is not listed.", [17], TryAgainError),
        ("connection reset by peer", [], TryAgainError),
    ],
)
def test_what_bulk_copy_says_has_its_number(told: str, numbers: list[int], kind: type[EtlError]) -> None:
    error = RuntimeError(told)
    assert sink_errors.numbers(error) == numbers
    assert sink_errors.explain(error, []).kind is kind


@pytest.mark.parametrize(
    ("driver", "server", "problem", "kind"),
    [
        ("Invalid authorization specification", "Login failed for user 'etl'.", "login", ConfigurationError),
        # In any language, for the driver's own words tell the SQLSTATE.
        ("Invalid authorization specification", "Fehler bei der Anmeldung.", "login", ConfigurationError),
        (
            "Invalid authorization specification",
            "Login failed for user 'etl'. Only administrators may connect at this time.",
            *("connection", TryAgainError),
        ),
        (
            "Syntax error or access violation",
            "Database 'sink' on server 's' is not currently available.",
            *("connection", TryAgainError),
        ),
        ("Client unable to establish connection", "TCP Provider: Error code 0x68", "connection", TryAgainError),
    ],
)
def test_a_connection_that_fails_is_sorted_without_a_number(
    driver: str, server: str, problem: str, kind: type[EtlError]
) -> None:
    answer = sink_errors.explain(mssql_python.OperationalError(driver, f"[Microsoft][SQL Server]{server}"), ["etl"])
    assert (answer.problem, answer.kind) == (problem, kind)
    assert "'etl'" not in answer.words
