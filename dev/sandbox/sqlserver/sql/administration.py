"""Statements about databases, logins, users, roles and grants, as the project sends them."""

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
from dev.sandbox.sqlserver.sql.changes import Changes
from dev.sandbox.sqlserver.sql.languages import check_language

_ON_DATABASE = ("CREATE TABLE", "BACKUP DATABASE", "VIEW DATABASE STATE")
_ON_SERVER = ("CREATE ANY DATABASE", "VIEW SERVER STATE", "VIEW SERVER PERFORMANCE STATE")
_ON_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "ALTER")


class Administration(Changes):
    """Reads what follows CREATE, ALTER, DROP, GRANT, REVOKE, BACKUP and RESTORE, but for tables."""

    def create(self, what: str) -> Statement:
        """Read what follows CREATE and the word for what is created."""
        name = self.name()
        if what == "DATABASE":
            return CreateDatabase(name)
        if what == "SCHEMA":
            return CreateSchema(name, self.name() if self.accept("AUTHORIZATION") else "dbo")
        if what == "LOGIN":
            return SetLogin(name, self._password(), is_new=True, sid=self._login_options())
        if what == "USER":
            self.expect("FOR", "LOGIN")
            return SetUser(name, self.name(), is_new=True)
        return CreateRole(name)

    def alter(self) -> Statement:
        """Read what follows ALTER."""
        what = self.accept_any("DATABASE", "LOGIN", "USER", "ROLE", "AUTHORIZATION")
        if what == "AUTHORIZATION":
            self.expect("ON", "SCHEMA", "::")
            schema = self.name()
            self.expect("TO")
            return ChangeOwner(schema, self.name())
        if not what:
            raise self.unknown()
        name = self.name()
        if what == "DATABASE":
            return self._alter_database(name)
        if what == "LOGIN" and self.accept("DISABLE"):
            return DisableLogin(name)
        if what == "LOGIN":
            return SetLogin(name, self._password(), is_new=False)
        if what == "USER":
            self.expect("WITH", "LOGIN", "=")
            return SetUser(name, self.name(), is_new=False)
        self.expect("ADD", "MEMBER")
        return AddMember(name, self.name())

    def backup(self) -> BackupDatabase:
        """Read what follows BACKUP."""
        self.expect("DATABASE")
        name = self.name()
        self.expect("TO", "DISK", "=")
        path = self.of_kind("text")
        self.expect("WITH", "COPY_ONLY", ",", "CHECKSUM")
        return BackupDatabase(name, path)

    def restore(self) -> Statement:
        """Read what follows RESTORE."""
        name = "" if self.accept("VERIFYONLY") else self._name_of_database()
        self.expect("FROM", "DISK", "=")
        path = self.of_kind("text")
        self.expect("WITH", "CHECKSUM")
        if not name:
            return VerifyBackup(path)
        self.expect(",", "REPLACE")
        return RestoreDatabase(name, path)

    def drop_login(self) -> Statement:
        """Read what follows DROP LOGIN."""
        return DropLogin(self.name())

    def grant(self, *, revoke: bool) -> Statement:
        """Read what follows GRANT or REVOKE."""
        permissions = [self._permission()]
        while self.accept(","):
            permissions.append(self._permission())
        schema = table = ""
        on_server = permissions[0] in _ON_SERVER
        known: tuple[str, ...] = _ON_SERVER if on_server else _ON_DATABASE
        if self.accept("ON", "SCHEMA", "::"):
            schema, known = self.name(), _ON_TABLES
        elif self.accept("ON", "OBJECT", "::"):
            schema, known = self.name(), _ON_TABLES
            self.expect(".")
            table = self.name()
        if not set(permissions) <= set(known):
            raise self.unknown()
        self.expect("FROM" if revoke else "TO")
        return Grant(tuple(permissions), schema, table, self.name(), revoke, on_server)

    def _alter_database(self, name: str) -> Statement:
        self.expect("SET")
        if self.accept("RECOVERY"):
            model = self.accept_any("SIMPLE", "FULL", "BULK_LOGGED")
            if not model:
                raise self.unknown()
            return SetDatabaseOption(name, "recovery_model_desc", model)
        if self.accept("AUTO_CLOSE"):
            is_on = self.accept("ON")
            if not is_on:
                self.expect("OFF")
            return SetDatabaseOption(name, "is_auto_close_on", str(is_on))
        is_offline = self.accept("OFFLINE")
        if not is_offline:
            self.expect("READ_COMMITTED_SNAPSHOT", "ON")
        self.expect("WITH", "ROLLBACK", "IMMEDIATE")
        return TakeOffline(name) if is_offline else SetDatabaseOption(name, "is_read_committed_snapshot_on", "True")

    def _name_of_database(self) -> str:
        self.expect("DATABASE")
        return self.name()

    def _permission(self) -> str:
        for words in (*_ON_DATABASE, *_ON_SERVER):
            if self.accept(*words.split()):
                return words
        found = self.accept_any(*_ON_TABLES)
        if not found:
            raise self.unknown()
        return found

    def _login_options(self) -> bytes:
        """Read what follows the password of a new login; returns its SID, empty where none is given."""
        sid = b""
        while self.accept(","):
            if self.accept("SID", "="):
                sid = bytes.fromhex(self.of_kind("blob"))
            else:
                self.expect("DEFAULT_LANGUAGE", "=")
                check_language(self.name())
        return sid

    def _password(self) -> str:
        self.expect("WITH", "PASSWORD", "=")
        return self.of_kind("text")
