"""The raw limit of the source: read all rows through ADBC, and forget them."""

import os

import adbc_driver_postgresql.dbapi as postgres

from tests.bench.speed.loaders import read_job

job = read_job()
with postgres.connect(os.environ["SOURCE_URL"]) as connection, connection.cursor() as cursor:
    cursor.execute(job.select)
    rows = sum(batch.num_rows for batch in cursor.fetch_record_batch())
assert rows == job.rows, f"{rows} of {job.rows} rows"
