"""The state of a database that SQL Server does not open for a login that it accepts, read in master."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etl.sqlserver.sql import quote_text

_TEMPORARY = ("RECOVERING", "RECOVERY_PENDING", "RESTORING", "COPYING")


@dataclass(frozen=True)
class State:
    """Why a login is refused. `problem` is `database` or `recovering`, as in `etl check`."""

    problem: str
    words: str

    @property
    def may_pass(self) -> bool:
        """Whether a retry may succeed without a change to the sink or the settings."""
        return self.problem == "recovering"


def query(database: str) -> str:
    """T-SQL for master: one row about the database; none if it does not exist."""
    name = quote_text(database)
    return (
        f"SELECT state_desc, user_access_desc, replica_id, HAS_DBACCESS({name}) FROM sys.databases WHERE name = {name}"
    )


def read(database: str, found: Sequence[Any] | None) -> State:
    """The state, from the row of the query."""
    if found is None:
        return State("database", f"There is no database {database} that the login could see: run `etl prepare-sink`.")
    state, access, replica, may_enter = found
    if state != "ONLINE":
        advice = "it opens when that is done" if state in _TEMPORARY else "have an administrator look at it"
        return State("recovering", f"The database {database} is {state}: {advice}.")
    if access != "MULTI_USER":
        return State("recovering", f"The database {database} is in use by an administrator ({access}).")
    if may_enter != 1 and replica is not None:
        return State(
            "recovering",
            f"The database {database} is in an availability group and does not open on this server: name the group's"
            " listener in SINK_URL.",
        )
    if may_enter != 1:
        return State(
            "database", f"The login may not enter the database {database}, which is there: run `etl prepare-sink`."
        )
    return State("recovering", f"The database {database} did not open a moment ago; now it is {state}.")
