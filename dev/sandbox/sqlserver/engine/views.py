"""System views, as tables of the catalogue."""

from dev.sandbox.sqlserver.engine.catalogue import COUNTERS, SCHEMA, SYS_COLUMNS, Table, TableColumn
from dev.sandbox.sqlserver.types import (
    BIGINT,
    BIT,
    DEFAULT_COLLATION,
    GUID,
    INT,
    SMALLINT,
    TINYINT,
    SqlType,
    binary_type,
    text_type,
)

_INFORMATION_SCHEMA: dict[str, dict[str, SqlType | None]] = {
    "SCHEMATA": dict.fromkeys(("SCHEMA_NAME", "SCHEMA_OWNER")),
    "TABLES": dict.fromkeys(("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_TYPE")),
    "COLUMNS": {
        "TABLE_CATALOG": None, "TABLE_SCHEMA": None, "TABLE_NAME": None, "COLUMN_NAME": None, "ORDINAL_POSITION": INT,
        "COLUMN_DEFAULT": None, "IS_NULLABLE": None, "DATA_TYPE": None, "CHARACTER_MAXIMUM_LENGTH": INT,
        "NUMERIC_PRECISION": TINYINT, "NUMERIC_SCALE": INT, "DATETIME_PRECISION": SMALLINT, "COLLATION_NAME": None,
    },
}  # fmt: skip
_SID = binary_type(85)
OF_SERVER: dict[str, dict[str, SqlType | None]] = {
    "DATABASES": {
        "name": None,
        "is_read_committed_snapshot_on": BIT,
        "state_desc": None,
        "user_access_desc": None,
        "replica_id": GUID,
        "is_auto_close_on": BIT,
        "recovery_model_desc": None,
    },
    "SQL_LOGINS": {"name": None, "sid": _SID, "password_hash": None, "is_disabled": BIT},
}
"""System views of the server, which do not belong to a database."""
_SYS = OF_SERVER | {
    "DATABASE_PRINCIPALS": {"name": None, "type": None, "sid": _SID},
    "DATABASE_FILES": {"type_desc": None, "size": INT},
    COUNTERS: {"counter_name": None, "instance_name": None, "cntr_value": BIGINT},
    "COLUMNS": {
        "object_id": INT,
        "name": None,
        "is_identity": BIT,
        "is_computed": BIT,
        "generated_always_type": TINYINT,
        "default_object_id": INT,
        "column_id": INT,
        "is_nullable": BIT,
    },
    "INDEXES": {
        "object_id": INT, "name": None, "index_id": INT, "type": TINYINT, "is_unique": BIT, "is_primary_key": BIT,
        "is_disabled": BIT, "is_hypothetical": BIT, "has_filter": BIT,
    },
    "FOREIGN_KEYS": {
        "name": None, "object_id": INT, "parent_object_id": INT, "referenced_object_id": INT, "is_disabled": BIT,
    },
    "INDEX_COLUMNS": {"object_id": INT, "index_id": INT, "column_id": INT, "key_ordinal": TINYINT},
}  # fmt: skip
_SYSTEM_TABLES = {"INFORMATION_SCHEMA": _INFORMATION_SCHEMA, "SYS": _SYS}
"""Known system views: columns and their types (None: nvarchar(128))."""


def is_system_schema(name: str) -> bool:
    """Whether a schema is a system schema."""
    return name.upper() in _SYSTEM_TABLES


def system_table(schema: str, name: str, in_master: bool) -> Table | None:
    """A system view as a table; in master only those of the server."""
    columns = _SYSTEM_TABLES[schema.upper()].get(name.upper())
    if columns is None or (in_master and name.upper() not in OF_SERVER):
        return None
    name_type = text_type(128).collated(DEFAULT_COLLATION)
    is_columns = (schema.upper(), name.upper()) == ("SYS", "COLUMNS")
    return Table(
        SCHEMA,
        SYS_COLUMNS if is_columns else name.upper(),
        tuple(TableColumn(c, t or name_type) for c, t in columns.items()),
    )
