"""Who did what in Airflow, as lines of JSON on stdout, for Fluent Bit to bring to Loki: there nobody can change them.

Airflow's own audit log is a table, which whoever has the metadata database can edit. Each of its rows that says what a
person asked the API server for is printed as well, and so is each login, also one that failed. Commands that are run in
a pod (`kubectl exec`) are in the audit log of Kubernetes.
"""

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from airflow._shared.observability.metrics import stats
from airflow.plugins_manager import AirflowPlugin

Message = MutableMapping[str, Any]
App = Callable[[Message, Any, Any], Awaitable[None]]

MOST_CHARACTERS = 2000
"""Of a field: a line of less than 4,096 bytes is never mixed with another process's."""
WAYS_TO_LOG_IN = ("auth_user_db", "auth_user_ldap", "auth_user_oauth", "auth_user_remote_user")
"""Methods of FAB's that take a name, or what an identity provider says of somebody, and give a user or None."""


def tell(what: str, user: str, **more: Any) -> None:
    """Print a line of the trail. `audit` comes first: by this Fluent Bit knows it."""
    known = {name: str(value)[:MOST_CHARACTERS] for name, value in more.items() if value is not None}
    line = {"audit": "airflow", "timestamp": datetime.now(UTC).isoformat(), "event": what, "user": user, **known}
    os.write(1, f"{json.dumps(line)}\n".encode())


def of_row(_mapper: object, _connection: object, row: Any) -> None:
    """A row of Airflow's audit log: those of people have the method of the request; the others are of tasks."""
    try:
        method = json.loads(row.extra or "{}").get("method")
    except (ValueError, AttributeError):
        return
    if method:
        more = {name: getattr(row, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
        tell(row.event, row.owner or "", **more, details=row.extra)


def told(check: Callable[..., Any]) -> Callable[..., Any]:
    """A check of who logs in, which also says how it ended, and counts failures for the alert LoginsFailing."""

    @wraps(check)
    def checked(manager: object, *arguments: Any, **named: Any) -> Any:
        user = check(manager, *arguments, **named)
        who = [*arguments, *named.values()][0]
        name = (who.get("username") or who.get("email")) if isinstance(who, dict) else who
        tell("login" if user else "login_failed", str(name))
        if not user:
            stats.incr("etl.login_failures")
        return user

    return checked


def listen() -> None:
    """Begin, once in a process."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.models.log import Log
    from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
    from sqlalchemy import event

    if not event.contains(Log, "after_insert", of_row):
        event.listen(Log, "after_insert", of_row)
        auth = get_auth_manager()
        if not isinstance(auth, FabAuthManager):
            return
        # The class in use: with an identity provider it is config/etl_security_manager.py.
        manager = type(auth.security_manager)
        for way in WAYS_TO_LOG_IN:
            setattr(manager, way, told(getattr(manager, way)))


class Listening:
    """A middleware that changes nothing: Airflow makes it where there is an API server, and nowhere else.

    All other processes load plugins as well, and are to start without what this one needs.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        listen()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on."""
        await self._app(scope, receive, send)


class AuditPlugin(AirflowPlugin):
    """Puts it around the API server."""

    name = "etl_airflow.web.audit_trail"
    fastapi_root_middlewares = [{"middleware": Listening, "name": "audit"}]  # noqa: RUF012 - as Airflow reads it
