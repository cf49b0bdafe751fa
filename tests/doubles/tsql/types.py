"""Values of T-SQL as Microsoft documents them: type precedence, conversions, decimal arithmetic, comparison, LIKE.

It shares no code with the renderer under test, nor with the SQL Server double. Undocumented behaviour is an error here,
so that no claim rests on it.
"""

import re
import struct
import unicodedata
import uuid
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

_EXACT = Context(prec=200)
_PRECEDENCE = (
    "datetime2", "date", "time", "float", "real", "decimal", "bigint", "int", "smallint", "bit", "uniqueidentifier",
    "nvarchar", "nchar", "varchar",
)  # fmt: skip
"""https://learn.microsoft.com/sql/t-sql/data-types/data-type-precedence-transact-sql"""
_INTEGERS = {"bigint": (19, 63), "int": (10, 31), "smallint": (5, 15)}
_TEXTS = ("nvarchar", "nchar", "varchar")
_NUMBERS = ("float", "real", "decimal", "bigint", "int", "smallint", "bit")
_LONGEST = {"nvarchar": 4000, "nchar": 4000, "varchar": 8000}
BINARY = "Latin1_General_BIN2"


class TsqlError(Exception):
    """An error of SQL Server, by its number; 0: the behaviour is not documented."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"Msg {number}: {message}")
        self.number = number


@dataclass(frozen=True)
class Type:
    """A type: digits of a decimal, length of a text in UTF-16 code units (None: max), collation where one is said."""

    name: str
    precision: int = 0
    scale: int = 0
    length: int | None = None
    collation: str | None = None

    @property
    def is_text(self) -> bool:
        return self.name in _TEXTS

    @property
    def as_decimal(self) -> "Type":
        """The decimal type that an integer is converted to."""
        return Type("decimal", _INTEGERS[self.name][0]) if self.name in _INTEGERS else self


def parse_type(text: str) -> Type:
    """Read a declaration such as decimal(9,2) or nvarchar(max)."""
    match = re.fullmatch(r"(\w+)(?:\((\w+)(?:,\s*(\d+))?\))?", text.strip())
    if not match:
        raise TsqlError(102, text)
    name, first, second = match[1].lower(), match[2], match[3]
    if name in _TEXTS:
        return Type(name, length=None if first == "max" else int(first))
    if name == "decimal":
        return Type(name, int(first), int(second or 0))
    if name in ("datetime2", "time"):
        return Type(name, scale=int(first))
    if name == "float" and first not in (None, "53"):
        raise TsqlError(0, text)
    if name not in (*_PRECEDENCE, "varbinary"):
        raise TsqlError(243, text)
    return Type(name)


def units(text: str) -> str:
    """A text as UTF-16 code units, one character each."""
    raw = text.encode("utf-16-le", "surrogatepass")
    return "".join(map(chr, struct.unpack(f"<{len(raw) // 2}H", raw)))


def stored(value: Any, type_: Type) -> Any:
    """A value as a column of a table has it; texts as code units, nchar padded."""
    if value is None or not type_.is_text:
        return int(value) if type_.name == "bit" and value is not None else value
    text = units(value)
    assert type_.length is None or len(text) <= type_.length, "2628: it would be truncated"
    return text.ljust(type_.length or 0) if type_.name == "nchar" else text


def higher(a: Type, b: Type) -> Type:
    """The type that two operands are converted to. Raises TsqlError 206 if they clash."""
    first, second = sorted((a, b), key=lambda each: _PRECEDENCE.index(each.name))
    if first.is_text and second.is_text:
        length = None if None in (a.length, b.length) else max(a.length or 0, b.length or 0)
        return Type(first.name, length=length, collation=collation(a, b))
    both_decimal = first.name == "decimal" and second.as_decimal.name == "decimal"
    if both_decimal:
        return common_decimal(first, second.as_decimal)
    clashing = first.name != second.name and not second.is_text and not {first.name, second.name} <= {*_NUMBERS}
    if clashing and {first.name, second.name} != {"date", "datetime2"}:
        raise TsqlError(206, f"Operand type clash: {a.name} is incompatible with {b.name}")
    return replace(first, scale=max(first.scale, second.scale)) if first.name == second.name else first


def common_decimal(a: Type, b: Type) -> Type:
    """The decimal that holds both; beyond 38 digits comparisons are not documented."""
    scale = max(a.scale, b.scale)
    precision = max(a.precision - a.scale, b.precision - b.scale) + scale
    if precision > 38:
        raise TsqlError(0, f"decimal({a.precision},{a.scale}) beside decimal({b.precision},{b.scale})")
    return Type("decimal", precision, scale)


def collation(a: Type, b: Type) -> str | None:
    """The collation of two texts; 468 if both have one and they differ."""
    if a.collation and b.collation and a.collation != b.collation:
        raise TsqlError(468, "Cannot resolve the collation conflict")
    return a.collation or b.collation


def arithmetic(operator: str, a: Type, b: Type) -> Type:
    """The type of a result: https://learn.microsoft.com/sql/t-sql/data-types/precision-scale-and-length-transact-sql."""
    if operator == "+" and a.is_text and b.is_text:
        name = min(a.name, b.name, key=_PRECEDENCE.index).replace("nchar", "nvarchar")
        length = None if None in (a.length, b.length) else min((a.length or 0) + (b.length or 0), _LONGEST[name])
        return Type(name, length=length, collation=collation(a, b))
    kind = min(a, b, key=lambda each: _PRECEDENCE.index(each.name))
    if not {a.name, b.name} <= {*_NUMBERS} - {"bit"}:
        raise TsqlError(0, f"{a.name} {operator} {b.name}")
    if kind.name == "float" or (kind.name in _INTEGERS and operator != "/"):
        return kind
    if kind.name != "decimal" or operator == "/":
        raise TsqlError(0, f"{a.name} {operator} {b.name}")
    a, b = a.as_decimal, b.as_decimal
    whole = max(a.precision - a.scale, b.precision - b.scale)
    if operator == "*":
        precision, scale = a.precision + b.precision + 1, a.scale + b.scale
        if precision > 38:
            scale = min(scale, 38 - (precision - scale)) if precision - scale < 32 else min(scale, 6)
    else:
        scale = max(a.scale, b.scale)
        precision = whole + scale + 1
        scale = min(precision, 38) - whole if precision > 38 else scale
    return Type("decimal", min(precision, 38), scale)


def computed(operator: str, a: Any, b: Any, type_: Type) -> Any:
    """The result of an operator on values that are not NULL, in the type that `arithmetic` says."""
    if type_.is_text:
        return (a + b)[: type_.length]
    if type_.name == "float":
        return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if operator == "/" else 0}[operator]
    functions = {"+": _EXACT.add, "-": _EXACT.subtract, "*": _EXACT.multiply}
    return fitted(functions[operator](Decimal(a), Decimal(b)), type_)


def fitted(value: Any, type_: Type) -> Any:
    """An exact number in an exact type: rounded to the scale, 8115 if it is too great."""
    if type_.name == "bit":
        return int(value != 0)
    if type_.name in _INTEGERS:
        number = int(value)  # decimals are cut
        if not -(2 ** _INTEGERS[type_.name][1]) <= number < 2 ** _INTEGERS[type_.name][1]:
            raise TsqlError(8115, f"Arithmetic overflow error converting expression to data type {type_.name}")
        return number
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-type_.scale), ROUND_HALF_UP, _EXACT)
    if rounded.copy_abs() >= Decimal(10) ** (type_.precision - type_.scale):
        raise TsqlError(8115, "Arithmetic overflow error converting expression to data type decimal")
    return rounded


def convert(value: Any, source: Type, target: Type) -> Any:
    """A value in another type, as an implicit conversion or CAST does it; a text is code units."""
    if value is None or source == target:
        return value
    if source.is_text:
        return _from_text(value, source, target)
    if source.name == target.name and target.name not in ("decimal", "time", "datetime2"):
        return value
    if target.name in ("float", "real") and source.name in _NUMBERS:
        number = float(value) if target.name == "float" else struct.unpack("f", struct.pack("f", float(value)))[0]
        if source.name not in ("float", "real") and Decimal(number) != Decimal(value):
            raise TsqlError(0, "how a decimal is rounded to a floating-point number is not documented")
        return number
    if source.name in _NUMBERS and target.name in ("decimal", "bit", *_INTEGERS):
        return fitted(value, target)
    if source.name == "date" and target.name == "datetime2":
        return datetime.combine(value, time())
    if source.name == target.name:
        return value
    raise TsqlError(206, f"Operand type clash: {source.name} is incompatible with {target.name}")


def _from_text(value: str, source: Type, target: Type) -> Any:
    if target.is_text:
        if target.name == "varchar" and source.name != "varchar":
            value = value.encode("cp1252", "replace").decode("cp1252")
        return value[: target.length]
    forms = {
        "date": (r"\d{4}-\d\d-\d\d", date.fromisoformat, 241),
        "datetime2": (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?", datetime.fromisoformat, 241),
        "time": (r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?", time.fromisoformat, 241),
        "uniqueidentifier": (r"\{?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?", uuid.UUID, 8169),
        "int": (r" *[-+]?\d+ *", int, 245),
        "bigint": (r" *[-+]?\d+ *", int, 8114),
        "decimal": (r" *[-+]?\d+(\.\d*)? *", Decimal, 8114),
        "bit": (r"(?i:true|false)|\d+", lambda text: int(text.lower() not in ("false", "0")), 245),
    }
    if target.name not in forms:
        raise TsqlError(0, f"a text as {target.name}")
    form, read, number = forms[target.name]
    try:
        if re.fullmatch(form, value):
            found = read(value)  # type: ignore[operator]
            return fitted(found, target) if target.name in ("decimal", *_INTEGERS) else found
    except ValueError:
        pass
    raise TsqlError(number, f"Conversion failed when converting '{value}' to {target.name}")


def compared(a: Any, b: Any, type_: Type) -> int:
    """Below, at or above zero, for values that are not NULL and have been converted to one type."""
    if type_.is_text:
        # The shorter one is padded with spaces.
        width = max(len(a), len(b))
        a, b = (_key(each.ljust(width), type_) for each in (a, b))
    elif type_.name == "uniqueidentifier":
        # The last six bytes count first: the documentation of SqlGuid and of "Comparing GUID and uniqueidentifier".
        order = (10, 11, 12, 13, 14, 15, 8, 9, 7, 6, 5, 4, 3, 2, 1, 0)
        a, b = (bytes(each.bytes_le[index] for index in order) for each in (a, b))
    return int(a > b) - int(a < b)


def _key(text: str, type_: Type) -> str:
    if type_.collation == BINARY:
        return text
    # For any default collation of a database: case and accents are not distinguished.
    whole = struct.pack(f"<{len(text)}H", *map(ord, text)).decode("utf-16-le", "replace")
    letters = unicodedata.normalize("NFKD", whole.casefold())
    return "".join(sign for sign in letters if not unicodedata.combining(sign))


def like(value: str, pattern: str, type_: Type) -> bool:
    """LIKE of Unicode texts, where blanks at the end count; `_` is one code unit in a collation without _SC."""
    if type_.name not in ("nvarchar", "nchar") or type_.collation != BINARY:
        raise TsqlError(0, "LIKE of what is not Unicode, or in a collation that is not known")
    if len(pattern) > 4000:
        raise TsqlError(0, "a pattern can be a maximum of 8,000 bytes")
    parts = []
    for match in re.finditer(r"\[(\^?)([^\]]+)\]|(.)", pattern, re.DOTALL):
        negation, members, sign = match.groups()
        if members:
            escaped = re.sub(r"([\\^\[])", r"\\\1", members)
            parts.append(f"[{negation}{escaped}]")
        else:
            parts.append({"%": ".*", "_": "."}.get(sign, re.escape(sign)))
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
