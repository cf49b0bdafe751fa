"""Drivers' connections to the SQL Server double, statements and bulk copies."""

from collections.abc import Callable
from typing import Any

import mssql_python
import pyarrow as pa
import pymssql
import pytest

from dev.sandbox.sqlserver import SqlServerDouble

mssql_python.pooling(enabled=False)


def connect(
    server: SqlServerDouble, *, autocommit: bool = True, user: str = "sa", password: str = "", database: str = ""
) -> Any:
    return mssql_python.connect(
        f"Server={server.host},{server.port};Database={database or server.database};UID={user};"
        f"PWD={password or server.password};Encrypt=no;TrustServerCertificate=yes",
        autocommit=autocommit,
    )


def connect_pymssql(
    server: SqlServerDouble, *, autocommit: bool = False, user: str = "sa", password: str = "", database: str = ""
) -> Any:
    return pymssql.connect(
        server=server.host,
        port=str(server.port),
        user=user,
        password=password or server.password,
        database=database or server.database,
        autocommit=autocommit,
        use_datetime2=True,
    )


def rows(connection: Any, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(statement, *parameters)
    return [tuple(row) for row in cursor.fetchall()]


def bulk_copy(connection: Any, table: str, batch: pa.RecordBatch, **options: Any) -> Any:
    reader = pa.RecordBatchReader.from_batches(batch.schema, [batch])
    settings = {"batch_size": 1000, "timeout": 0, "column_mappings": list(batch.schema.names)} | options
    return connection.cursor().bulkcopy_arrow(table, reader, **settings)


def numbers(count: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(range(count), pa.int32())})


def error_of(run: Callable[[], object]) -> str:
    with pytest.raises((mssql_python.Error, pymssql.Error, RuntimeError)) as caught:
        run()
    return str(caught.value)
