"""The version of a pipeline: which types it may have."""

from etl.errors import printable
from etl.model.column_types import ColumnType
from etl.model.version_zone import check_zone

VERSION_TYPES = ("timestamptz", "timestamp")


def check_version(name: str, column: ColumnType, zone: str | None) -> None:
    """Raise ValueError, with a sentence, for a version column that cannot be one, or a zone that it cannot have."""
    if column.name not in VERSION_TYPES:
        raise ValueError(f"version: '{name}' is {column}; it must be {' or '.join(VERSION_TYPES)}")
    if zone is not None:
        if column.name != "timestamp":
            raise ValueError(f"version_zone: '{name}' is a timestamptz, which needs none")
        try:
            check_zone(zone)
        except ValueError as error:
            raise ValueError(f"version_zone: '{printable(zone)}': {error}") from None
