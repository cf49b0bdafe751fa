"""Statements about databases, logins, users, roles and grants."""

from dev.sandbox.sqlserver.engine.statements import (
    AddMember,
    BackupDatabase,
    ChangeOwner,
    CreateDatabase,
    CreateRole,
    CreateSchema,
    DisableLogin,
    DropLogin,
    Grant,
    RestoreDatabase,
    SetDatabaseOption,
    SetLogin,
    SetUser,
    Statement,
    TakeOffline,
    VerifyBackup,
)
from dev.sandbox.sqlserver.sql.batch import Batch
from dev.sandbox.sqlserver.sql.languages import check_language

_ON_DATABASE = ("CREATE TABLE", "BACKUP DATABASE", "VIEW DATABASE STATE")
_ON_SERVER = ("CREATE ANY DATABASE", "VIEW SERVER STATE", "VIEW SERVER PERFORMANCE STATE")
_ON_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "ALTER")


class Administration:
    """Reads what follows CREATE, ALTER, DROP, GRANT, REVOKE, BACKUP and RESTORE, but for tables."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def create(self, what: str) -> Statement:
        """Read the rest of CREATE, after the kind of object."""
        name = self.batch.name()
        if what == "DATABASE":
            return CreateDatabase(name)
        if what == "SCHEMA":
            return CreateSchema(name, self.batch.name() if self.batch.accept("AUTHORIZATION") else "dbo")
        if what == "LOGIN":
            return SetLogin(name, self._password(), is_new=True, sid=self._login_options())
        if what == "USER" and self.batch.accept("FROM", "EXTERNAL", "PROVIDER"):
            return SetUser(name, "", is_new=True)
        if what == "USER":
            self.batch.expect("FOR", "LOGIN")
            return SetUser(name, self.batch.name(), is_new=True)
        return CreateRole(name)

    def alter(self) -> Statement:
        """Read what follows ALTER."""
        what = self.batch.accept_any("DATABASE", "LOGIN", "USER", "ROLE", "AUTHORIZATION")
        if what == "AUTHORIZATION":
            self.batch.expect("ON", "SCHEMA", "::")
            schema = self.batch.name()
            self.batch.expect("TO")
            return ChangeOwner(schema, self.batch.name())
        if not what:
            raise self.batch.unknown()
        name = self.batch.name()
        if what == "DATABASE":
            return self._alter_database(name)
        if what == "LOGIN" and self.batch.accept("DISABLE"):
            return DisableLogin(name)
        if what == "LOGIN":
            return SetLogin(name, self._password(), is_new=False)
        if what == "USER":
            self.batch.expect("WITH", "LOGIN", "=")
            return SetUser(name, self.batch.name(), is_new=False)
        self.batch.expect("ADD", "MEMBER")
        return AddMember(name, self.batch.name())

    def backup(self) -> BackupDatabase:
        """Read what follows BACKUP."""
        self.batch.expect("DATABASE")
        name = self.batch.name()
        self.batch.expect("TO", "DISK", "=")
        path = self.batch.of_kind("text")
        self.batch.expect("WITH", "COPY_ONLY", ",", "CHECKSUM")
        return BackupDatabase(name, path)

    def restore(self) -> Statement:
        """Read what follows RESTORE."""
        name = "" if self.batch.accept("VERIFYONLY") else self._name_of_database()
        self.batch.expect("FROM", "DISK", "=")
        path = self.batch.of_kind("text")
        self.batch.expect("WITH", "CHECKSUM")
        if not name:
            return VerifyBackup(path)
        self.batch.expect(",", "REPLACE")
        return RestoreDatabase(name, path)

    def drop_login(self) -> Statement:
        """Read what follows DROP LOGIN."""
        return DropLogin(self.batch.name())

    def grant(self, *, revoke: bool) -> Statement:
        """Read what follows GRANT or REVOKE."""
        permissions = [self._permission()]
        while self.batch.accept(","):
            permissions.append(self._permission())
        schema = table = ""
        on_server = permissions[0] in _ON_SERVER
        known: tuple[str, ...] = _ON_SERVER if on_server else _ON_DATABASE
        if self.batch.accept("ON", "SCHEMA", "::"):
            schema, known = self.batch.name(), _ON_TABLES
        elif self.batch.accept("ON", "OBJECT", "::"):
            schema, known = self.batch.name(), _ON_TABLES
            self.batch.expect(".")
            table = self.batch.name()
        if not set(permissions) <= set(known):
            raise self.batch.unknown()
        self.batch.expect("FROM" if revoke else "TO")
        return Grant(tuple(permissions), schema, table, self.batch.name(), revoke, on_server)

    def _alter_database(self, name: str) -> Statement:
        self.batch.expect("SET")
        if self.batch.accept("RECOVERY"):
            model = self.batch.accept_any("SIMPLE", "FULL", "BULK_LOGGED")
            if not model:
                raise self.batch.unknown()
            return SetDatabaseOption(name, "recovery_model_desc", model)
        if self.batch.accept("AUTO_CLOSE"):
            is_on = self.batch.accept("ON")
            if not is_on:
                self.batch.expect("OFF")
            return SetDatabaseOption(name, "is_auto_close_on", str(is_on))
        is_offline = self.batch.accept("OFFLINE")
        if not is_offline:
            self.batch.expect("READ_COMMITTED_SNAPSHOT", "ON")
        self.batch.expect("WITH", "ROLLBACK", "IMMEDIATE")
        return TakeOffline(name) if is_offline else SetDatabaseOption(name, "is_read_committed_snapshot_on", "True")

    def _name_of_database(self) -> str:
        self.batch.expect("DATABASE")
        return self.batch.name()

    def _permission(self) -> str:
        for words in (*_ON_DATABASE, *_ON_SERVER):
            if self.batch.accept(*words.split()):
                return words
        found = self.batch.accept_any(*_ON_TABLES)
        if not found:
            raise self.batch.unknown()
        return found

    def _login_options(self) -> bytes:
        """Read what follows the password of a new login; returns its SID, empty where none is given."""
        sid = b""
        while self.batch.accept(","):
            if self.batch.accept("SID", "="):
                sid = bytes.fromhex(self.batch.of_kind("blob"))
            else:
                self.batch.expect("DEFAULT_LANGUAGE", "=")
                check_language(self.batch.name())
        return sid

    def _password(self) -> str:
        self.batch.expect("WITH", "PASSWORD", "=")
        return self.batch.of_kind("text")
