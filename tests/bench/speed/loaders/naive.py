"""The script that this project replaces: everything into memory, then row by row into the sink."""

import os

import psycopg2
import pymssql

from tests.bench.speed.loaders import read_job, sink_words

job = read_job()
with psycopg2.connect(os.environ["SOURCE_URL"], options="-c timezone=UTC") as source, source.cursor() as read:
    read.execute(job.select)
    rows = read.fetchall()
# Without use_datetime2 it would cut times to milliseconds.
with pymssql.connect(**sink_words(), use_datetime2=True) as sink, sink.cursor() as write:
    values = ", ".join(["%s"] * len(job.columns))
    write.executemany(f"INSERT INTO {job.sink} ({', '.join(job.columns)}) VALUES ({values})", rows)
    sink.commit()
