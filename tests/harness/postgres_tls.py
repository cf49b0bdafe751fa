"""A TLS proxy for a Postgres built without TLS, as the tests' is: clients see a server with TLS.

Real are the certificate, the client that verifies it, and the server behind; in between PostgreSQL's own request for
TLS is answered here.
"""

import asyncio
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TLS_REQUEST = struct.pack(">II", 8, 80877103)
_GSS_REQUEST = struct.pack(">II", 8, 80877104)
_SIZE = 1 << 16


@contextmanager
def tls_front(behind: int, certificate: Path, key: Path, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Serve on a port until the block ends, before a server at a port of loopback; yields the port.

    Whoever does not ask for TLS is turned away.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, ssl.SSLError):  # whichever side leaves ends the other
            while (request := await reader.readexactly(8)) == _GSS_REQUEST:
                writer.write(b"N")
            if request == _TLS_REQUEST:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(context)
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", behind)
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        writer.close()

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(serve, address, port))
    thread = threading.Thread(target=loop.run_forever, name="tls-front", daemon=True)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_SIZE):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
