"""Statements about databases, logins, users, roles and grants, as the project sends them."""

from .changes import Changes
from .statements import (
    AddMember,
    ChangeOwner,
    CreateDatabase,
    CreateRole,
    CreateSchema,
    DisableLogin,
    DropLogin,
    Grant,
    ReadFromSnapshots,
    SetLogin,
    SetUser,
    Statement,
)

_ON_DATABASE = ("CREATE TABLE",)
_ON_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "ALTER")


class Administration(Changes):
    """Reads what follows CREATE, ALTER, DROP, GRANT and REVOKE, but for tables."""

    def create(self, what: str) -> Statement:
        """Read what follows CREATE and the word for what is created."""
        name = self.name()
        if what == "DATABASE":
            return CreateDatabase(name)
        if what == "SCHEMA":
            return CreateSchema(name, self.name() if self.accept("AUTHORIZATION") else "dbo")
        if what == "LOGIN":
            return SetLogin(name, self._password(), is_new=True)
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
            self.expect("SET", "READ_COMMITTED_SNAPSHOT", "ON", "WITH", "ROLLBACK", "IMMEDIATE")
            return ReadFromSnapshots(name)
        if what == "LOGIN" and self.accept("DISABLE"):
            return DisableLogin(name)
        if what == "LOGIN":
            return SetLogin(name, self._password(), is_new=False)
        if what == "USER":
            self.expect("WITH", "LOGIN", "=")
            return SetUser(name, self.name(), is_new=False)
        self.expect("ADD", "MEMBER")
        return AddMember(name, self.name())

    def drop_login(self) -> Statement:
        """Read what follows DROP LOGIN."""
        return DropLogin(self.name())

    def grant(self, *, revoke: bool) -> Statement:
        """Read what follows GRANT or REVOKE."""
        permissions = [self._permission()]
        while self.accept(","):
            permissions.append(self._permission())
        schema = table = ""
        known: tuple[str, ...] = _ON_DATABASE
        if self.accept("ON", "SCHEMA", "::"):
            schema, known = self.name(), _ON_TABLES
        elif self.accept("ON", "OBJECT", "::"):
            schema, known = self.name(), _ON_TABLES
            self.expect(".")
            table = self.name()
        if not set(permissions) <= set(known):
            raise self.unknown()
        self.expect("FROM" if revoke else "TO")
        return Grant(tuple(permissions), schema, table, self.name(), revoke)

    def _permission(self) -> str:
        if self.accept("CREATE", "TABLE"):
            return "CREATE TABLE"
        found = self.accept_any(*_ON_TABLES)
        if not found:
            raise self.unknown()
        return found

    def _password(self) -> str:
        self.expect("WITH", "PASSWORD", "=")
        return self.of_kind("text")
