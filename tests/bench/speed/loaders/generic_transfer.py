"""Airflow's GenericTransfer with its own hooks, outside of a scheduler, as its documentation shows it."""

import json
import os
from typing import Any

from tests.bench.speed.loaders import read_job, sink_words

job = read_job()
words = sink_words()
words["host"], words["login"], words["schema"] = words.pop("server"), words.pop("user"), words.pop("database")
os.environ["AIRFLOW_CONN_SOURCE"] = os.environ["SOURCE_URL"]
# Without use_datetime2 the driver would cut times to milliseconds.
sink: dict[str, Any] = {"conn_type": "mssql", **words, "extra": {"use_datetime2": True}}
os.environ["AIRFLOW_CONN_SINK"] = json.dumps(sink)

# Airflow reads its environment when it is imported.
from airflow.providers.common.sql.operators.generic_transfer import GenericTransfer  # noqa: E402

GenericTransfer(
    task_id="transfer",
    sql=job.select,
    source_conn_id="source",
    source_hook_params={"options": "-c timezone=UTC"},
    destination_conn_id="sink",
    destination_table=job.sink,
    insert_args={"target_fields": job.columns},
).execute({})
