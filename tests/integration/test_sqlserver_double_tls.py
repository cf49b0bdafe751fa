"""The SQL Server double with a certificate: it requires TLS, as SQL Server with forceencryption."""

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import mssql_python
import pyarrow as pa
import pytest

from dev.sandbox.sqlserver import SqlServerDouble
from tests.cluster.certificates import Authority

PRELOGIN, LOGIN = 18, 16
ROWS = 40_000

mssql_python.pooling(enabled=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.of_server(tmp_path_factory.mktemp("authority"), "sink", "localhost")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[SqlServerDouble]:
    with SqlServerDouble(certificate=(authority.certificate_of("sink"), authority.key_of("sink"))) as made:
        yield made


@pytest.fixture(params=["yes", "strict", "no"])
def sink(server: SqlServerDouble, authority: Authority, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection of a client that wants TLS, from the first byte on, or not at all: it gets TLS all the same."""
    words = f"Encrypt={request.param};TrustServerCertificate=yes"
    if request.param == "strict":
        # A strict client believes nobody but whom it is told to.
        words = f"Encrypt=strict;ServerCertificate={authority.certificate_of('sink')}"
    login = f"Server=localhost,{server.port};Database=sink;UID=sa;PWD={server.password}"
    connection = mssql_python.connect(f"{login};{words}", autocommit=True)
    yield connection
    connection.close()


def test_many_rows_go_in_and_out(sink: Any) -> None:
    cursor = sink.cursor()
    cursor.execute("CREATE TABLE [dbo].[many] ([n] int NOT NULL, [t] nvarchar(100) NULL)")
    table = pa.table({"n": pa.array(range(ROWS), pa.int32()), "t": ["x" * (n % 100) for n in range(ROWS)]})
    cursor.bulkcopy_arrow("[dbo].[many]", table.to_reader(), timeout=0)
    found = cursor.execute("SELECT [n], [t] FROM [dbo].[many] ORDER BY [n]").fetchall()
    assert [tuple(row) for row in found] == [(n, "x" * (n % 100)) for n in range(ROWS)]
    cursor.execute("DROP TABLE [dbo].[many]")


def test_a_statement_can_be_interrupted(sink: Any) -> None:
    cursor = sink.cursor()
    cursor.execute("CREATE TABLE [dbo].[big] ([n] int NULL)")
    cursor.bulkcopy_arrow("[dbo].[big]", pa.table({"n": pa.array(range(ROWS), pa.int32())}).to_reader(), timeout=0)
    sink.timeout = 1
    began = time.monotonic()
    with pytest.raises(mssql_python.Error):
        sink.cursor().execute(
            "SELECT COUNT_BIG(*) FROM big AS a JOIN big AS b ON a.n <> b.n JOIN big AS c ON c.n <> b.n"
        )
    assert time.monotonic() - began < 10
    sink.timeout = 0
    sink.cursor().execute("DROP TABLE [dbo].[big]")


def test_a_login_in_plain_text_is_not_read(server: SqlServerDouble) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        for kind in (PRELOGIN, LOGIN):
            client.sendall(struct.pack(">BBHHBB", kind, 1, 8 + 1, 0, 1, 0) + b"\xff")
            answer = client.recv(4096)
            if kind == PRELOGIN:
                assert answer
        assert answer == b""
