"""The raw limit of the sink: bulk copy rows that are ready, from a file, into a table without a key."""

import os

import mssql_python
import pyarrow as pa
from etl.config.settings import Settings

from tests.bench.speed.loaders import read_job

job = read_job()
mssql_python.pooling(enabled=False)
connection = mssql_python.connect(Settings(sink_url=os.environ["SINK_URL"]).sink().get_secret_value())
# The driver takes no numbers that do not lie as their type asks for, and those in a file need not.
aligned = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.At64Byte)
with connection, connection.cursor() as cursor, pa.OSFile(job.file) as file:
    copied = cursor.bulkcopy_arrow(
        job.sink,
        pa.ipc.open_stream(file, options=aligned),
        batch_size=100_000,
        timeout=0,
        column_mappings=job.columns,
        table_lock=True,
        keep_nulls=True,
    )
assert copied["rows_copied"] == job.rows, copied
