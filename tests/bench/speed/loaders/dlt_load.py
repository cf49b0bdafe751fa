"""dlt: its SQL source, and its destination for SQL Server over pyodbc and Microsoft's ODBC driver."""

import os
from pathlib import Path

import dlt
import mssql_python_odbc
from dlt.sources.sql_database import sql_table

from tests.bench.speed.loaders import read_job, sink_words

DRIVER = "ODBC Driver 18 for SQL Server"
job = read_job()
folder = Path(os.environ["DLT_DATA_DIR"])
# The driver comes in a wheel; the driver manager is told where it is.
(library,) = Path(mssql_python_odbc.__file__).parent.glob("libs/linux/debian_ubuntu/*/lib/libmsodbcsql*")
(folder / "odbcinst.ini").write_text(f"[{DRIVER}]\nDriver={library}\n")
os.environ["ODBCSYSINI"] = str(folder)
words = sink_words()
words["host"], words["username"] = words.pop("server"), words.pop("user")
pipeline = dlt.pipeline(
    "bench",
    destination=dlt.destinations.mssql({**words, "driver": DRIVER, "query": {"Encrypt": "no"}}),
    dataset_name=job.sink.split(".")[0],
    pipelines_dir=str(folder),
)
rows = sql_table(
    os.environ["SOURCE_URL"].replace("postgresql://", "postgresql+psycopg2://"),
    job.source,
    backend="pyarrow",
    included_columns=job.columns,
)
pipeline.run(rows, table_name=job.sink.split(".")[1], write_disposition="append").raise_on_failed_jobs()
