"""Audit trail of Airflow: lines of JSON on stdout, which Fluent Bit sends to Loki, where they cannot be changed.

Airflow's own audit log is a table, which anyone with access to the metadata database can edit. Each of its rows on a
person's request to the API server is printed as well, and so is each login and failed login. Commands that are run in a
pod (`kubectl exec`) are in the audit log of Kubernetes.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from airflow._shared.observability.metrics import stats
from airflow.plugins_manager import AirflowPlugin
from starlette.types import ASGIApp, Receive, Scope, Send

MOST_CHARACTERS = 2000
"""Maximum of a field: a line below 4,096 bytes (PIPE_BUF) is written atomically."""
WAYS_TO_LOG_IN = ("auth_user_db", "auth_user_ldap", "auth_user_oauth", "auth_user_remote_user")
"""FAB's methods that take a user name, or an identity provider's claims, and return a user or None."""


def tell(what: str, user: str, **more: Any) -> None:
    """Print a line of the trail. `audit` is its first field: Fluent Bit recognizes lines by that."""
    known = {name: str(value)[:MOST_CHARACTERS] for name, value in more.items() if value is not None}
    line = {"audit": "airflow", "timestamp": datetime.now(UTC).isoformat(), "event": what, "user": user, **known}
    os.write(1, f"{json.dumps(line)}\n".encode())


def of_row(_mapper: object, _connection: object, row: Any) -> None:
    """Print a row of Airflow's audit log, if it has a request method: rows without are of tasks."""
    try:
        method = json.loads(row.extra or "{}").get("method")
    except (ValueError, AttributeError):
        return
    if method:
        more = {name: getattr(row, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
        tell(row.event, row.owner or "", **more, details=row.extra)


def audited(check: Callable[..., Any]) -> Callable[..., Any]:
    """A login check that also prints its outcome, and counts failures for the alert LoginsFailing."""

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
    """Attach to audit log and logins, once in a process."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.models.log import Log
    from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
    from sqlalchemy import event

    if not event.contains(Log, "after_insert", of_row):
        event.listen(Log, "after_insert", of_row)
        auth = get_auth_manager()
        if not isinstance(auth, FabAuthManager):
            return
        # The class in use: with an identity provider it is web/security_manager.py.
        manager = type(auth.security_manager)
        for way in WAYS_TO_LOG_IN:
            setattr(manager, way, audited(getattr(manager, way)))


class Listening:
    """A middleware that only starts the audit trail: Airflow creates middlewares in the API server alone.

    Plugins are loaded by all other processes as well, which should not import what the trail needs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        listen()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        await self._app(scope, receive, send)


class AuditPlugin(AirflowPlugin):
    """Adds the middleware to the API server."""

    name = "etl_airflow.web.audit_trail"
    fastapi_root_middlewares = [{"middleware": Listening, "name": "audit"}]  # noqa: RUF012 - as Airflow reads it
