"""Statements about databases, logins, users, roles and grants."""

import re
import uuid

from dev.sandbox.sqlserver.engine.catalogue import MASTER, SCHEMA, quote
from dev.sandbox.sqlserver.engine.principals import EXTERNAL_USER, ROLE, SERVER_GRANTS, USER, hash_password
from dev.sandbox.sqlserver.engine.statements import (
    AddMember,
    ChangeOwner,
    CreateDatabase,
    CreateRole,
    DisableLogin,
    DropLogin,
    Grant,
    SetDatabaseOption,
    SetLogin,
    SetUser,
)
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.errors import SqlError, unknown_object

_LEAST_PASSWORD, _LEAST_KINDS = 8, 3


def create_database(store: Store, statement: CreateDatabase) -> None:
    """Create the database beside master. Raises SqlError 1801 if it exists."""
    require_create_database(store)
    outside_transaction(store, "CREATE DATABASE")
    if store.catalogue.database_named(statement.name) is not None:
        raise SqlError(1801, f"Database '{statement.name}' already exists. Choose a different database name.")
    if store.catalogue.own_database() is not None:
        raise SqlError(50000, "the SQL Server double keeps one database beside master, and has it already")
    store.write(lambda: store.catalogue.create_database(statement.name))


def require_create_database(store: Store) -> None:
    """Raise SqlError 262 unless the session may create databases."""
    if not store.principals.allows_on_server("CREATE ANY DATABASE"):
        raise SqlError(262, f"CREATE DATABASE permission denied in database '{MASTER}'.", 14)


def set_database_option(store: Store, statement: SetDatabaseOption) -> None:
    """Store an option for sys.databases. None has an effect here: readers never wait, and there is no log."""
    store.principals.require_administrator()
    outside_transaction(store, "ALTER DATABASE")
    if statement.database.lower() == MASTER or store.catalogue.database_named(statement.database) is None:
        raise _not_there("alter", "database", statement.database)
    change = f"UPDATE {{}}.DATABASES SET {statement.column} = $v WHERE name = $n"
    _write(store, change, v=statement.value, n=statement.database)


def set_login(store: Store, statement: SetLogin) -> None:
    """Create a login, or change its password. Raises SqlError 15025, 15151, or 15116 and 15118 for a weak one."""
    store.principals.require_administrator()
    _check_password(statement.password)
    hashed = hash_password(statement.password)
    if not statement.is_new:
        if store.principals.sid(statement.name) is None:
            raise _not_there("alter", "login", statement.name)
        _write(store, "UPDATE {}.SQL_LOGINS SET password_hash = $h WHERE name = $n", h=hashed, n=statement.name)
        return
    if store.principals.knows_login(statement.name):
        raise SqlError(15025, f"The server principal '{statement.name}' already exists.")
    if statement.sid and store.principals.has_sid(statement.sid):
        raise SqlError(15433, "Supplied parameter sid is in use.")
    sid = statement.sid or uuid.uuid4().bytes
    _write(store, "INSERT INTO {}.SQL_LOGINS VALUES ($n, $s, $h, false)", n=statement.name, s=sid, h=hashed)


def disable_login(store: Store, statement: DisableLogin) -> None:
    """Disable a login."""
    store.principals.require_administrator()
    if store.principals.sid(statement.name) is None:
        raise _not_there("alter", "login", statement.name)
    _write(store, "UPDATE {}.SQL_LOGINS SET is_disabled = true WHERE name = $n", n=statement.name)


def drop_login(store: Store, statement: DropLogin) -> None:
    """Drop a login; its users stay, as orphaned users."""
    store.principals.require_administrator()
    if store.principals.sid(statement.name) is None:
        raise _not_there("drop", "login", statement.name)
    _write(store, "DELETE FROM {}.SQL_LOGINS WHERE name = $n", n=statement.name)
    _write(store, f"DELETE FROM {{}}.{SERVER_GRANTS} WHERE login = $n", n=statement.name)


def set_user(store: Store, statement: SetUser) -> None:
    """Create a user for a login or for an application of Entra ID, or give a user another login."""
    _inside_database(store)
    if not statement.login:
        _create_external_user(store, statement.name)
        return
    sid = store.principals.sid(statement.login)
    if sid is None:
        raise SqlError(15007, f"'{statement.login}' is not a valid login or you do not have permission.")
    if statement.is_new:
        _check_free(store, statement.name)
        _write(store, "INSERT INTO {}.DATABASE_PRINCIPALS VALUES ($n, $k, $s)", n=statement.name, k=USER, s=sid)
        return
    if store.principals.kind(statement.name) != USER:
        raise _not_there("alter", "user", statement.name)
    _write(store, "UPDATE {}.DATABASE_PRINCIPALS SET sid = $s WHERE name = $n", s=sid, n=statement.name)


def _create_external_user(store: Store, name: str) -> None:
    """Create the user of an application: only who has logged in by a token may. Raises SqlError 33159 and 33130."""
    if not store.principals.is_external:
        raise SqlError(
            33159,
            f"Principal '{name}' could not be created. Only connections established with Active Directory accounts can"
            " create other Active Directory users.",
        )
    sid = store.principals.directory.find(name)
    if sid is None:
        raise SqlError(33130, f"Principal '{name}' could not be found or this principal type is not supported.")
    _check_free(store, name)
    _write(store, "INSERT INTO {}.DATABASE_PRINCIPALS VALUES ($n, $k, $s)", n=name, k=EXTERNAL_USER, s=sid)


def create_role(store: Store, statement: CreateRole) -> None:
    """Create a role. Raises SqlError 15023 if the name is taken."""
    _inside_database(store)
    _check_free(store, statement.name)
    _write(store, "INSERT INTO {}.DATABASE_PRINCIPALS VALUES ($n, $k, NULL)", n=statement.name, k=ROLE)


def add_member(store: Store, statement: AddMember) -> None:
    """Add a user to a role."""
    _inside_database(store)
    is_member = store.principals.is_member(statement.role, statement.member)
    if is_member is None:
        raise _not_there("alter", "role", statement.role)
    if not is_member:
        _write(store, "INSERT INTO {}.members VALUES ($r, $m)", r=statement.role, m=statement.member)


def change_owner(store: Store, statement: ChangeOwner) -> None:
    """Change the owner of a schema; this drops all grants on it and its tables, as in SQL Server."""
    _inside_database(store)
    schema = store.catalogue.schema(statement.schema)
    if schema is None or schema == "dbo":
        raise _not_there("alter", "schema", statement.schema)
    _check_grantee(store, statement.owner)

    def change() -> None:
        _run(store, "UPDATE {}.SCHEMATA SET SCHEMA_OWNER = $o WHERE SCHEMA_NAME = $s", o=statement.owner, s=schema)
        _run(store, "DELETE FROM {}.grants WHERE schema_name = $s", s=schema)

    store.write(change)


def grant(store: Store, statement: Grant) -> None:
    """Grant permissions to a principal, or revoke them; idempotent."""
    if statement.on_server:
        _grant_on_server(store, statement)
        return
    _inside_database(store)
    _check_grantee(store, statement.grantee)
    if statement.schema and store.catalogue.schema(statement.schema) is None:
        raise _not_there("find", "schema", statement.schema)
    if statement.table and store.catalogue.table(statement.schema, statement.table) is None:
        raise unknown_object(f"{statement.schema}.{statement.table}")
    place = {"s": statement.schema, "t": statement.table, "g": statement.grantee}
    same = "schema_name = $s AND table_name = $t AND grantee = $g AND permission = $p"

    def change() -> None:
        for permission in statement.permissions:
            _run(store, f"DELETE FROM {{}}.grants WHERE {same}", **place, p=permission)
            if not statement.revoke:
                _run(store, "INSERT INTO {}.grants VALUES ($g, $p, $s, $t)", **place, p=permission)

    store.write(change)


def _grant_on_server(store: Store, statement: Grant) -> None:
    store.principals.require_administrator()
    if not store.catalogue.in_master:
        raise SqlError(4621, "Permissions at the server scope can only be granted when the current database is master")
    if store.principals.sid(statement.grantee) is None:
        raise _not_there("find", "login", statement.grantee)

    def change() -> None:
        for permission in statement.permissions:
            row = {"l": statement.grantee, "p": permission}
            _run(store, f"DELETE FROM {{}}.{SERVER_GRANTS} WHERE login = $l AND permission = $p", **row)
            if not statement.revoke:
                _run(store, f"INSERT INTO {{}}.{SERVER_GRANTS} VALUES ($l, $p)", **row)

    store.write(change)


def _write(store: Store, statement: str, **values: str | bytes) -> None:
    store.write(lambda: _run(store, statement, **values))


def _run(store: Store, statement: str, **values: str | bytes) -> None:
    store.run(statement.format(quote(SCHEMA)), values)


def outside_transaction(store: Store, verb: str) -> None:
    """Raise SqlError 226 in a transaction."""
    if store.trancount:
        raise SqlError(226, f"{verb} statement not allowed within multi-statement transaction.")


def _inside_database(store: Store) -> None:
    store.principals.require_administrator()
    if store.catalogue.in_master:
        raise SqlError(50000, "the SQL Server double keeps users, roles and grants in its database, not in master")


def _check_free(store: Store, name: str) -> None:
    if store.principals.kind(name) is not None:
        raise SqlError(15023, f"User, group, or role '{name}' already exists in the current database.")


def _check_grantee(store: Store, name: str) -> None:
    if store.principals.kind(name) is None:
        raise _not_there("find", "user", name)


def _check_password(password: str) -> None:
    refused = (
        "Password validation failed. The password does not meet SQL Server password policy requirements because it is"
    )
    if len(password) < _LEAST_PASSWORD:
        raise SqlError(15116, f"{refused} too short. The password must be at least {_LEAST_PASSWORD} characters.")
    kinds = ("[A-Z]", "[a-z]", "[0-9]", "[^A-Za-z0-9]")
    if sum(bool(re.search(kind, password)) for kind in kinds) < _LEAST_KINDS:
        raise SqlError(15118, f"{refused} not complex enough.")


def _not_there(verb: str, kind: str, name: str) -> SqlError:
    return SqlError(
        15151, f"Cannot {verb} the {kind} '{name}', because it does not exist or you do not have permission."
    )
