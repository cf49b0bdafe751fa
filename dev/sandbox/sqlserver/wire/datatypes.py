"""sp_datatype_info_100: sizes of types, which pyodbc queries when it connects."""

from dev.sandbox.sqlserver.types import INT, SMALLINT, text_type
from dev.sandbox.sqlserver.wire.tokens import DONE_IN_PROC, SELECT, Column, Reply
from dev.sandbox.sqlserver.wire.values import encoder

NAME = "sp_datatype_info_100"
_NAME = text_type(128)
_COLUMNS = [
    Column(name, declared)
    for name, declared in {
        "TYPE_NAME": _NAME, "DATA_TYPE": SMALLINT, "PRECISION": INT, "LITERAL_PREFIX": _NAME, "LITERAL_SUFFIX": _NAME,
        "CREATE_PARAMS": _NAME, "NULLABLE": SMALLINT, "CASE_SENSITIVE": SMALLINT, "SEARCHABLE": SMALLINT,
        "UNSIGNED_ATTRIBUTE": SMALLINT, "MONEY": SMALLINT, "AUTO_INCREMENT": SMALLINT, "LOCAL_TYPE_NAME": _NAME,
        "MINIMUM_SCALE": SMALLINT, "MAXIMUM_SCALE": SMALLINT, "SQL_DATA_TYPE": SMALLINT, "SQL_DATETIME_SUB": SMALLINT,
        "NUM_PREC_RADIX": INT, "INTERVAL_PRECISION": SMALLINT, "USERTYPE": SMALLINT,
    }.items()
]  # fmt: skip
# Types that pyodbc queries, by ODBC's number: name, maximum size, maximum scale of seconds.
_TYPES = {
    12: ("varchar", 8000, None),
    -9: ("nvarchar", 4000, None),
    -3: ("varbinary", 8000, None),
    93: ("datetime2", 27, 7),
}


def describe_datatype(number: int, reply: Reply) -> None:
    """Reply with the row of a type; with no row for others."""
    found = _TYPES.get(number)
    reply.columns(_COLUMNS)
    if found:
        name, longest, scale = found
        known = {
            "TYPE_NAME": name, "DATA_TYPE": number, "PRECISION": longest, "NULLABLE": 1, "CASE_SENSITIVE": 0,
            "SEARCHABLE": 3, "MONEY": 0, "LOCAL_TYPE_NAME": name, "MAXIMUM_SCALE": scale, "SQL_DATA_TYPE": number,
        }  # fmt: skip
        values = (encoder(column.type)(known.get(column.name)) for column in _COLUMNS)
        reply.write(b"\xd1" + b"".join(values))
    reply.done(DONE_IN_PROC, SELECT, count=int(found is not None))
