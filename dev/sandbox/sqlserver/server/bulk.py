"""Bulk loads (MS-TDS 2.2.6.1): a message with rows, announced by INSERT BULK."""

import struct
from collections.abc import Iterable, Iterator

from dev.sandbox.sqlserver.engine.catalogue import Table
from dev.sandbox.sqlserver.engine.statements import InsertBulk
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.engine.table_locks import Mode
from dev.sandbox.sqlserver.errors import ConnectionCutError, SqlError, unknown_column
from dev.sandbox.sqlserver.faults import Faults
from dev.sandbox.sqlserver.sql.conversions import Expr, assign
from dev.sandbox.sqlserver.sql.defaults import default_value
from dev.sandbox.sqlserver.types import SqlType
from dev.sandbox.sqlserver.wire.decoder import RowDecoder
from dev.sandbox.sqlserver.wire.typeinfo import read_type

_COLUMN_METADATA, _ROW = 0x81, 0xD1
_READ_BYTES = 1 << 18
_INSERT_ROWS = 50_000
_INSERT_BYTES = 16 << 20


def load(request: InsertBulk, message: Iterable[bytes], store: Store, faults: Faults) -> int:
    """Insert the rows of a bulk message as they arrive; returns their number.

    All or none are kept. Raises SqlError for rows that the table refuses.
    """
    if faults.take("disk_full") is not None:
        raise SqlError(
            1105,
            f"Could not allocate space for object '{request.table.full_name}' in database '{store.catalogue.database}'"
            " because the 'PRIMARY' filegroup is full.",
            17,
        )
    with store.locking({request.table.full_name.lower(): Mode.INTENT_EXCLUSIVE}):
        return store.write(lambda: _load(request, _portions(message), store, faults))


def discard(message: Iterable[bytes]) -> int:
    """Receive a bulk message and discard it; returns the number of rows kept: 0."""
    for _ in message:
        pass
    return 0


def _load(request: InsertBulk, portions: Iterator[bytes], store: Store, faults: Faults) -> int:
    data = next(portions)
    types, at = _read_columns(data)
    if len(types) != len(request.columns):
        raise SqlError(4816, "Invalid column type from bcp client: the number of columns differs.")
    columns = _assignments(request, types, store.catalogue.database)
    decoder = RowDecoder(types)
    received = waiting_bytes = 0
    data = data[at:]
    store.given_up.wait((faults.take("bulk_delay") or 0) / 1000)
    while True:
        before = decoder.rows
        used = decoder.decode(data)
        received += decoder.rows - before
        _cut_after(decoder.rows - before, faults)
        data, waiting_bytes = data[used:], waiting_bytes + used
        if decoder.rows >= _INSERT_ROWS or waiting_bytes >= _INSERT_BYTES:
            _insert(request.table, columns, decoder, store, faults)
            waiting_bytes = 0
        if data[:1] and data[0] != _ROW:
            break
        # If not even one row was complete, the next portion has to be larger.
        more = [next(portions, b"")]
        if not more[0]:
            raise SqlError(4002, "The incoming tabular data stream (TDS) protocol stream is incorrect.")
        lacking = 0 if used else len(data) - len(more[0])
        while lacking > 0 and (part := next(portions, b"")):
            more.append(part)
            lacking -= len(part)
        data = b"".join([data, *more])
    _insert(request.table, columns, decoder, store, faults)
    return received


def _portions(message: Iterable[bytes]) -> Iterator[bytes]:
    """The packets of a message, joined to larger portions: each costs a call of the decoder."""
    parts: list[bytes] = []
    size = 0
    for packet in message:
        parts.append(packet)
        size += len(packet)
        if size >= _READ_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


def _read_columns(data: bytes) -> tuple[list[SqlType], int]:
    """Column types in the message's metadata, and the position of the first row."""
    token, count = struct.unpack_from("<BH", data)
    if token != _COLUMN_METADATA:
        raise SqlError(4002, "The incoming tabular data stream (TDS) protocol stream is incorrect.")
    at = 3
    types = []
    for _ in range(count):
        declared, at = read_type(data, at + 6)  # user type and flags come before
        at += 1 + 2 * data[at]  # the name
        types.append(declared)
    return types, at


def _assignments(request: InsertBulk, types: list[SqlType], database: str) -> dict[str, str]:
    table = request.table
    columns: dict[str, str] = {}
    for at, (name, declared) in enumerate(zip(request.columns, types, strict=True)):
        column = table.column(name)
        if column is None:
            raise unknown_column(name)
        columns[column.name] = assign(Expr(f"c{at}", declared), column, f"{database}.{table.full_name}")
    for column in table.columns:
        if column.default and column.name not in columns:
            columns[column.name] = default_value(column).sql
    return columns


def _cut_after(rows: int, faults: Faults) -> None:
    used = faults.take_part("drop_connection_after_bulk_rows", rows)
    if used is not None and (used < rows or not rows):
        raise ConnectionCutError("fault: drop_connection_after_bulk_rows")


def _insert(table: Table, columns: dict[str, str], decoder: RowDecoder, store: Store, faults: Faults) -> None:
    if decoder.rows:
        lost = faults.take_part("lose_bulk_rows", decoder.rows) or 0
        store.insert_arrow(table, columns, decoder.take(lost))
