"""Logins, users, roles and grants, stored in DuckDB beside the data; and the permissions of a session.

The administrator is not stored: its name and password are given at the start.
"""

import hashlib
import secrets
from dataclasses import dataclass, field

from dev.sandbox.sqlserver.engine.catalogue import MASTER, SCHEMA, Connection, Table
from dev.sandbox.sqlserver.engine.directory import Directory
from dev.sandbox.sqlserver.errors import SqlError

USER, EXTERNAL_USER, ROLE = "S", "E", "R"
"""Kinds of principals: sys.database_principals.type."""
SERVER_GRANTS = "server_grants"
"""Table of the permissions of logins on the server."""
_COVERED_BY = {"VIEW SERVER PERFORMANCE STATE": "VIEW SERVER STATE"}
_SALT_DIGITS = 16
_STATEMENTS = f"""
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."SQL_LOGINS" (
    name VARCHAR COLLATE NOCASE, sid BLOB, password_hash VARCHAR, is_disabled BOOLEAN);
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."DATABASE_PRINCIPALS" (name VARCHAR COLLATE NOCASE, type VARCHAR, sid BLOB);
CREATE TABLE IF NOT EXISTS "{SCHEMA}".members (role VARCHAR COLLATE NOCASE, member VARCHAR COLLATE NOCASE);
CREATE TABLE IF NOT EXISTS "{SCHEMA}".grants (
    grantee VARCHAR COLLATE NOCASE, permission VARCHAR,
    schema_name VARCHAR COLLATE NOCASE, table_name VARCHAR COLLATE NOCASE);
CREATE TABLE IF NOT EXISTS "{SCHEMA}".{SERVER_GRANTS} (login VARCHAR COLLATE NOCASE, permission VARCHAR);
"""
# The owner of a schema has all permissions in it. A grant on a schema covers its tables, one on '' all schemas.
_ALLOWED = f"""
WITH users AS (
    SELECT name FROM "{SCHEMA}"."DATABASE_PRINCIPALS" WHERE sid = $sid),
mine AS (
    SELECT name FROM users UNION ALL SELECT m.role FROM "{SCHEMA}".members AS m JOIN users ON m.member = users.name)
SELECT 1 FROM "{SCHEMA}"."SCHEMATA" AS s JOIN mine ON s.SCHEMA_OWNER = mine.name WHERE s.SCHEMA_NAME = $schema
UNION ALL
SELECT 1 FROM "{SCHEMA}".grants AS g JOIN mine ON g.grantee = mine.name
WHERE g.permission = $permission AND g.schema_name IN ('', $schema) AND g.table_name IN ('', $table)
LIMIT 1
"""


@dataclass(frozen=True)
class Administrator:
    """The login with all permissions, and the directory in which one more administrator may be."""

    login: str
    password: str
    directory: Directory = field(default_factory=Directory)


class Principals:
    """Login of a session, and its permissions."""

    def __init__(self, connection: Connection, administrator: Administrator) -> None:
        self._connection = connection
        self._administrator = administrator
        self._login = ""
        self._external = b""
        """Security identifier of a session that logged in by a token."""

    @property
    def is_administrator(self) -> bool:
        """Whether the session is an administrator's."""
        if self._external:
            return self._external == self.directory.find(self.directory.administrator)
        return self._login.lower() == self._administrator.login.lower()

    def log_in(self, login: str, password: str) -> bool:
        """Log in; whether the password is right."""
        if login.lower() == self._administrator.login.lower():
            known = password == self._administrator.password
        else:
            hashed = self._one("SELECT password_hash FROM {}.SQL_LOGINS WHERE name = ? AND NOT is_disabled", login)
            known = hashed is not None and hash_password(password, hashed[:_SALT_DIGITS]) == hashed
        self._login = login if known else ""
        return known

    @property
    def directory(self) -> Directory:
        """The applications that may log in by a token."""
        return self._administrator.directory

    @property
    def is_external(self) -> bool:
        """Whether the session logged in by a token."""
        return bool(self._external)

    def log_in_by_token(self, token: str) -> str:
        """Log in; returns why the token is refused, empty if it is accepted."""
        self._external, refused = self.directory.identify(token)
        return refused

    def may_enter(self, database: str) -> bool:
        """Whether the session has a user in a database; in master every login is a guest, but not a contained user."""
        if self.is_administrator:
            return True
        if database == MASTER:
            return not self._external
        query = f'SELECT 1 FROM "{SCHEMA}"."DATABASE_PRINCIPALS" WHERE sid = ?'
        return self._connection.execute(query, [self._own_sid()]).fetchone() is not None

    def _own_sid(self) -> bytes | None:
        return self._external or self.sid(self._login)

    def allows(self, permission: str, schema: str = "", table: str = "") -> bool:
        """Whether the session has a permission on a table, on a schema, or on the database."""
        if self.is_administrator:
            return True
        asked = {"sid": self._own_sid(), "permission": permission, "schema": schema, "table": table}
        return self._connection.execute(_ALLOWED, asked).fetchone() is not None

    def require_on_database(self, permission: str, database: str) -> None:
        """Raise SqlError 262 unless the session has a permission on the database."""
        if not self.allows(permission):
            raise SqlError(262, f"{permission} permission denied in database '{database}'.", 14)

    def allows_on_server(self, permission: str) -> bool:
        """Whether the session has a permission on the whole server, or one that covers it."""
        if self.is_administrator:
            return True
        query = f'SELECT 1 FROM "{SCHEMA}".{SERVER_GRANTS} WHERE login = ? AND permission IN (?, ?)'
        asked = [self._login, permission, _COVERED_BY.get(permission, permission)]
        return self._connection.execute(query, asked).fetchone() is not None

    def require(self, permission: str, table: Table, database: str) -> None:
        """Raise SqlError 229 unless the session has a permission on a table."""
        if not self.allows(permission, table.schema, table.name):
            raise SqlError(
                229,
                f"The {permission} permission was denied on the object '{table.name}', database '{database}',"
                f" schema '{table.schema}'.",
                14,
            )

    def require_administrator(self) -> None:
        """Raise SqlError 15247 unless the session is the administrator's."""
        if not self.is_administrator:
            raise SqlError(15247, "User does not have permission to perform this action.")

    def knows_login(self, login: str) -> bool:
        """Whether a login exists."""
        return login.lower() == self._administrator.login.lower() or self.sid(login) is not None

    def sid(self, login: str) -> bytes | None:
        """Security identifier of a login: it differs from that of a dropped login of the same name."""
        query = f'SELECT sid FROM "{SCHEMA}".SQL_LOGINS WHERE name = ?'
        found = self._connection.execute(query, [login]).fetchone()
        return None if found is None else bytes(found[0])

    def has_sid(self, sid: bytes) -> bool:
        """Whether a login has a security identifier."""
        query = f'SELECT 1 FROM "{SCHEMA}".SQL_LOGINS WHERE sid = ?'
        return self._connection.execute(query, [sid]).fetchone() is not None

    def kind(self, principal: str) -> str | None:
        """USER or ROLE; None if the database has no principal of that name."""
        return self._one("SELECT type FROM {}.DATABASE_PRINCIPALS WHERE name = ?", principal)

    def is_member(self, role: str, member: str) -> bool | None:
        """Whether a user is in a role; None without the user or the role."""
        if self.kind(role) != ROLE or self.kind(member) is None:
            return None
        query = f'SELECT 1 FROM "{SCHEMA}".members WHERE role = ? AND member = ?'
        return self._connection.execute(query, [role, member]).fetchone() is not None

    def _one(self, query: str, name: str) -> str | None:
        found = self._connection.execute(query.format(f'"{SCHEMA}"'), [name]).fetchone()
        return None if found is None or found[0] is None else str(found[0])


def create_principals(connection: Connection) -> None:
    """Create the tables of logins, users, roles and grants if they are missing."""
    connection.execute(_STATEMENTS)


def hash_password(password: str, salt: str = "") -> str:
    """Stored form of a password: 16 digits of salt, then SHA-256; read by the macro standin_password_matches."""
    salt = salt or secrets.token_hex(_SALT_DIGITS // 2)
    return salt + hashlib.sha256(f"{salt}{password}".encode()).hexdigest()
