"""The functions of T-SQL that the double knows. Each reads its arguments, without the parentheses."""

from dataclasses import replace

from dev.sandbox.sqlserver.engine.catalogue import object_id
from dev.sandbox.sqlserver.errors import SqlError, unknown_statement
from dev.sandbox.sqlserver.sql.conversions import Expr, average_type, common_type, convert, convert_styled, sum_type
from dev.sandbox.sqlserver.sql.expressions import Expressions, utc_now
from dev.sandbox.sqlserver.sql.lexer import Cursor
from dev.sandbox.sqlserver.types import BIGINT, INT, MAX, SqlType, text_type


def _arguments(at: Expressions, count: int) -> list[Expr]:
    found = at.values_list()
    if len(found) != count:
        raise at.batch.unknown()
    return found


def _cast(at: Expressions) -> Expr:
    value = at.value()
    at.batch.expect("AS")
    target = at.batch.type_name()
    return Expr(convert(value, target), target, known=value.known if target.is_text else None)


def _convert(at: Expressions) -> Expr | None:
    target = at.batch.type_name()
    at.batch.expect(",")
    value = at.value()
    if not at.batch.accept(","):
        return Expr(_bytes_of_text(value, target) or convert(value, target), target)
    styled = convert_styled(value, target, int(at.batch.of_kind("number")))
    return None if styled is None else Expr(styled, target)


def _bytes_of_text(value: Expr, target: SqlType) -> str:
    """Text as varbinary(max), which only CONVERT allows: as UTF-8, where SQL Server has UTF-16."""
    if value.type is None or not value.type.is_text or not target.is_binary or target.length != MAX:
        return ""
    return f"encode({value.sql})"


def _aggregated(at: Expressions) -> Expr:
    """The argument of an aggregate, which has no subquery in it."""
    began = at.batch.position
    value = at.value()
    if any(
        token.kind == "word" and token.value.upper() == "SELECT" for token in at.batch.tokens[began : at.batch.position]
    ):
        raise SqlError(
            130, "Cannot perform an aggregate function on an expression containing an aggregate or a subquery."
        )
    return value


def _count(at: Expressions) -> Expr:
    if at.batch.accept("*"):
        return Expr("CAST(count(*) AS INTEGER)", INT)
    distinct = "DISTINCT " if at.batch.accept("DISTINCT") else ""
    return Expr(f"CAST(count({distinct}{_aggregated(at).sql}) AS INTEGER)", INT)


def _count_big(at: Expressions) -> Expr:
    counted = _count(at)
    return Expr(counted.sql.replace(" AS INTEGER)", " AS BIGINT)"), BIGINT)


def _sum(at: Expressions) -> Expr | None:
    value = _aggregated(at)
    if value.type is None or not value.type.is_number or value.type.name == "bit":
        return None
    declared = sum_type(value.type)
    return Expr(f"CAST(sum({value.sql}) AS {declared.duckdb})", declared)


def _average(at: Expressions) -> Expr | None:
    value = _aggregated(at)
    if value.type is None or not value.type.is_number or value.type.name == "bit":
        return None
    declared = average_type(value.type)
    average = f"trunc(avg({value.sql}))" if declared.is_integer else f"avg({value.sql})"
    return Expr(f"CAST({average} AS {declared.duckdb})", declared)


def _extreme(at: Expressions, function: str) -> Expr:
    value = _aggregated(at)
    return Expr(f"{function}({value.sql})", value.type)


def _coalesce(at: Expressions) -> Expr | None:
    values = at.values_list()
    declared = common_type(values)
    if declared is None:
        return None
    return Expr(f"coalesce({', '.join(convert(value, declared) for value in values)})", declared)


def _is_null(at: Expressions) -> Expr | None:
    value, otherwise = _arguments(at, 2)
    declared = value.type or otherwise.type
    if declared is None:
        return None
    return Expr(f"coalesce({convert(value, declared)}, {convert(otherwise, declared)})", declared)


def _of_text(at: Expressions, function: str) -> Expr | None:
    (value,) = _arguments(at, 1)
    if value.type is None or not value.type.is_text:
        return None
    return Expr(f"{function}({value.sql})", value.type)


def _without_spaces_at_the_end(at: Expressions) -> Expr | None:
    (value,) = _arguments(at, 1)
    if value.type is None or not value.type.is_text:
        return None
    return Expr(f"rtrim({value.sql}, ' ')", replace(value.type, name="nvarchar"))


def _translated(at: Expressions) -> Expr | None:
    value, signs, others = _arguments(at, 3)
    if value.type is None or not value.type.is_text or value.type.ignores_case:
        return None
    return Expr(f"translate({value.sql}, {signs.sql}, {others.sql})", value.type)


def _length(at: Expressions) -> Expr | None:
    text = _of_text(at, "standin_length")
    return text and Expr(text.sql, INT)


def _data_length(at: Expressions) -> Expr | None:
    (value,) = _arguments(at, 1)
    if value.type is None or not value.type.is_binary:
        return None
    return Expr(f"octet_length({value.sql})", BIGINT if value.type.length == MAX else INT)


def _absolute(at: Expressions) -> Expr | None:
    (value,) = _arguments(at, 1)
    if value.type is None or not value.type.is_number:
        return None
    return Expr(f"abs({value.sql})", value.type)


def _database_name(at: Expressions) -> Expr:
    return at.literal(at.batch.context.catalogue.database, text_type(128))


def _schema_id(at: Expressions) -> Expr:
    (name,) = _arguments(at, 1)
    schema = at.batch.context.catalogue.schema(name.known or "")
    return at.literal(None if schema is None else object_id(schema), INT)


def _object_id(at: Expressions) -> Expr | None:
    name, *kinds = at.values_list()
    if name.known is None or [kind.known for kind in kinds] not in ([], ["U"]):
        return None
    words = Cursor(name.known)
    parts = [words.name()]
    while words.accept("."):
        parts.append(words.name())
    if len(parts) > 3 or words.token.kind != "end":
        raise unknown_statement(f"OBJECT_ID('{name.known}')")
    schema = (parts[-2] if len(parts) > 1 else "") or "dbo"
    table = at.batch.context.catalogue.table(schema, parts[-1])
    return at.literal(None if table is None else object_id(table.full_name), INT)


def _password_matches(at: Expressions) -> Expr:
    password, hashed = _arguments(at, 2)
    return Expr(f"standin_password_matches({password.sql}, {hashed.sql})", INT)


def _has_database_access(at: Expressions) -> Expr | None:
    (name,) = _arguments(at, 1)
    if name.known is None:
        return None
    database = at.batch.context.catalogue.database_named(name.known)
    if database is None:
        return at.literal(None, INT)
    may_enter = at.batch.context.principals.may_enter(database) and at.batch.context.catalogue.is_online(database)
    return at.literal(int(may_enter), INT)


def _server_property(at: Expressions) -> Expr | None:
    (name,) = _arguments(at, 1)
    if name.known == "ProductMajorVersion":
        return at.literal("16", text_type(128))
    return at.literal(at.batch.context.edition, INT) if name.known == "EngineEdition" else None


def _is_role_member(at: Expressions) -> Expr | None:
    role, member = _arguments(at, 2)
    if role.known is None or member.known is None:
        return None
    found = at.batch.context.principals.is_member(role.known, member.known)
    return at.literal(None if found is None else int(found), INT)


FUNCTIONS = {
    "ABS": _absolute,
    "AVG": _average,
    "CAST": _cast,
    "COALESCE": _coalesce,
    "CONVERT": _convert,
    "COUNT": _count,
    "COUNT_BIG": _count_big,
    "DATALENGTH": _data_length,
    "DB_NAME": _database_name,
    "HAS_DBACCESS": _has_database_access,
    "ISNULL": _is_null,
    "IS_ROLEMEMBER": _is_role_member,
    "LEN": _length,
    "LOWER": lambda at: _of_text(at, "lower"),
    "MAX": lambda at: _extreme(at, "max"),
    "MIN": lambda at: _extreme(at, "min"),
    "OBJECT_ID": _object_id,
    "PWDCOMPARE": _password_matches,
    "RTRIM": _without_spaces_at_the_end,
    "SCHEMA_ID": _schema_id,
    "SERVERPROPERTY": _server_property,
    "SUM": _sum,
    "SYSUTCDATETIME": lambda _: utc_now(),
    "TRANSLATE": _translated,
    "UPPER": lambda at: _of_text(at, "upper"),
}
