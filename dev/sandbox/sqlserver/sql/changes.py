"""INSERT, UPDATE and DELETE: T-SQL in, DuckDB's SQL out."""

from dev.sandbox.sqlserver.engine.catalogue import Table, TableColumn, quote
from dev.sandbox.sqlserver.engine.statements import Change
from dev.sandbox.sqlserver.errors import SqlError, unknown_column
from dev.sandbox.sqlserver.sql.conversions import Expr, assign, common_type, convert
from dev.sandbox.sqlserver.sql.defaults import default_value
from dev.sandbox.sqlserver.sql.names import Names
from dev.sandbox.sqlserver.sql.queries import Queries
from dev.sandbox.sqlserver.sql.scope import Scope, Source
from dev.sandbox.sqlserver.sql.sources import Join
from dev.sandbox.sqlserver.types import INT, SqlType


class Changes:
    """Reads statements that change rows."""

    def __init__(self, names: Names, queries: Queries) -> None:
        self.batch, self.names, self.queries = names.batch, names, queries

    def insert(self) -> Change:
        """Read what follows INSERT."""
        self.batch.accept("INTO")
        table = self.names.table()
        self.names.require("INSERT", table)
        self.names.apply(self.names.hints(), table)
        columns = [_column(table, name) for name in self.names.column_names()] or _given(table)
        for column in columns:
            _refuse_computed(column)
            if column.identity:
                raise SqlError(
                    544,
                    f"Cannot insert explicit value for identity column in table '{table.name}' when IDENTITY_INSERT is"
                    " set to OFF.",
                )
        if self.batch.accept("VALUES"):
            sql, given = self._rows()
        else:
            query = self.queries.query()
            sql = query.sql
            given = [Expr(f"q.c{at}", column.type) for at, column in enumerate(query.columns)]
        if len(given) != len(columns):
            raise SqlError(213, "Column name or number of supplied values does not match table definition.")
        name = self._name_in_messages(table)
        assigned = {column.name: assign(value, column, name) for column, value in zip(columns, given, strict=True)}
        for column in table.columns:
            if column.default and column.name not in assigned:
                assigned[column.name] = assign(default_value(column), column, name)
            if column.identity:
                highest = f"(SELECT coalesce(max({quote(column.name)}), 0) FROM {table.sql})"
                assigned[column.name] = f"{highest} + row_number() OVER ()"
        names = ", ".join(quote(name) for name in assigned)
        inner = ", ".join(f"c{at}" for at in range(len(given)))
        select = f"SELECT {', '.join(assigned.values())} FROM ({sql}) AS q({inner})"
        return Change("INSERT", f"INSERT INTO {table.sql} ({names}) {select}", table, self.batch.values)

    def update(self) -> Change:
        """Read what follows UPDATE; FROM may join the table, under its alias, with others."""
        target = self.names.dotted_name()
        hints = self.names.hints()
        self.batch.expect("SET")
        # FROM is read first: it has the sources of the assignments' columns.
        self.batch.scope = Scope()
        set_at, from_at = self.batch.position, self.queries.find_from()
        joins: list[Join] = []
        if from_at:
            self.batch.position = from_at
            self.batch.expect("FROM")
            joins = self.queries.sources.from_clause()
        else:
            table = self.names.table_named(target)
            self.batch.scope.sources.append(Source(table.name, table.columns, table))
        after, self.batch.position = self.batch.position, set_at
        changed = self._changed(target)
        if changed.table is not None:
            self.names.require("UPDATE", changed.table)
            self.names.apply(hints, changed.table)
        assignments = [self._assignment(changed)]
        while self.batch.accept(","):
            assignments.append(self._assignment(changed))
        if from_at:
            if self.batch.position != from_at:
                raise self.batch.unknown()
            self.batch.position = after
        return self._update(changed, assignments, joins)

    def delete(self) -> Change:
        """Read what follows DELETE."""
        limit = f" LIMIT {self.queries.top()}" if self.batch.accept("TOP") else ""
        if not self.batch.accept("FROM") and self.batch.sees("FROM", after=1):
            changed = self._of_alias()
        else:
            found = self.names.table()
            changed = Source(found.name, found.columns, found)
            self.batch.scope = Scope([changed])
        table, alias = changed.table, quote(changed.alias)
        if table is None:
            raise self.batch.unknown()
        self.names.require("DELETE", table)
        self.names.apply(self.names.hints(), table)
        condition = f" WHERE {self._chosen(table)}" if self.batch.accept("WHERE") else ""
        if limit:
            condition = f" WHERE rowid IN (SELECT rowid FROM {table.sql} AS {alias}{condition}{limit})"
        return Change("DELETE", f"DELETE FROM {table.sql} AS {alias}{condition}", table, self.batch.values)

    def _of_alias(self) -> Source:
        """Read the table of DELETE … FROM, by its alias there."""
        target = [self.batch.name()]
        self.batch.expect("FROM")
        self.batch.scope = Scope()
        if len(self.queries.sources.from_clause()) > 1:
            raise self.batch.unknown()
        return self._changed(target)

    def _name_in_messages(self, table: Table) -> str:
        """A table's name in messages about its rows."""
        return f"{self.batch.context.catalogue.database}.{table.full_name}"

    def _chosen(self, table: Table) -> str:
        """Read the condition after WHERE of a change, which also needs the permission to SELECT."""
        self.names.require("SELECT", table)
        return self.queries.conditions.condition()

    def _rows(self) -> tuple[str, list[Expr]]:
        rows = [self._row()]
        while self.batch.accept(","):
            rows.append(self._row())
        if any(len(row) != len(rows[0]) for row in rows):
            raise SqlError(10709, "The number of columns for each row in a table value constructor must be the same.")
        types = [common_type([row[at] for row in rows]) for at in range(len(rows[0]))]
        written = (map(_unified, row, types) for row in rows)
        sql = ", ".join(f"({', '.join(row)})" for row in written)
        return f"VALUES {sql}", [Expr(f"q.c{at}", each or INT) for at, each in enumerate(types)]

    def _row(self) -> list[Expr]:
        self.batch.expect("(")
        row = self.queries.expressions.values_list()
        self.batch.expect(")")
        return row

    def _changed(self, target: list[str]) -> Source:
        """Target of an UPDATE: a source of its FROM, by alias or by name, or the only one."""
        for source in self.batch.scope.sources:
            if len(target) == 1 and source.alias.lower() == target[0].lower():
                return source
        table = self.names.table_named(target)
        for source in self.batch.scope.sources:
            if source.table == table:
                return source
        raise self.batch.unknown()

    def _assignment(self, changed: Source) -> str:
        name = self.batch.name()
        if self.batch.accept("."):
            if name.lower() != changed.alias.lower():
                raise self.batch.unknown()
            name = self.batch.name()
        if changed.table is None:
            raise self.batch.unknown()
        column = _column(changed.table, name)
        _refuse_computed(column)
        if column.identity:
            raise SqlError(8102, f"Cannot update identity column '{column.name}'.")
        self.batch.expect("=")
        value = self.queries.expressions.value()
        return f"{quote(column.name)} = {assign(value, column, self._name_in_messages(changed.table))}"

    def _update(self, changed: Source, assignments: list[str], joins: list[Join]) -> Change:
        """The UPDATE in DuckDB's SQL, which joins the table with FROM by WHERE, and so knows inner joins only."""
        assert changed.table is not None  # there are assignments to its columns
        conditions = []
        if self.batch.accept("WHERE"):
            conditions.append(f"({self._chosen(changed.table)})")
        if any(join.how == "LEFT JOIN" for join in joins):
            raise self.batch.unknown()
        conditions += [f"({join.condition})" for join in joins if join.condition]
        others = ", ".join(join.source.sql for join in joins if join.source is not changed)
        sql = f"UPDATE {changed.table.sql} AS {quote(changed.alias)} SET {', '.join(assignments)}"
        sql += f" FROM {others}" if others else ""
        sql += f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return Change("UPDATE", sql, changed.table, self.batch.values)


def _column(table: Table, name: str) -> TableColumn:
    column = table.column(name)
    if column is None:
        raise unknown_column(name)
    return column


def _given(table: Table) -> list[TableColumn]:
    """Columns of an INSERT without a list of columns."""
    return [column for column in table.columns if not (column.identity or column.computed)]


def _refuse_computed(column: TableColumn) -> None:
    if column.computed:
        raise SqlError(
            271,
            f'The column "{column.name}" cannot be modified because it is either a computed column or is the result of'
            " a UNION operator.",
        )


def _unified(value: Expr, target: SqlType | None) -> str:
    """A value of VALUES in the common type of its column."""
    if target is None or value.type is None:
        return "NULL"
    return value.sql if value.type.is_text and target.is_text else convert(value, target)
