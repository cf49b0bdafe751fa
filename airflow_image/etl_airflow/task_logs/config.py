"""[logging] logging_config_class = etl_airflow.task_logs.config.LOGGING_CONFIG: Airflow's own, with task logs in Loki.

LOKI_URL            URL to read from; empty: task logs are files only, Airflow's default
LOKI_PUSH_URL       URL to send to; default: LOKI_URL
LOKI_EXIT_SECONDS   time that a worker tries to send the last lines after its task; default: 300
"""

import os
from copy import deepcopy

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG

from etl_airflow.task_logs.remote import LokiTaskLog

LOGGING_CONFIG = deepcopy(DEFAULT_LOGGING_CONFIG)
REMOTE_TASK_LOG: LokiTaskLog | None = None

if url := os.environ.get("LOKI_URL"):
    REMOTE_TASK_LOG = LokiTaskLog(
        url, float(os.environ.get("LOKI_EXIT_SECONDS") or 300), push_url=os.environ.get("LOKI_PUSH_URL", "")
    )
    LOGGING_CONFIG["handlers"]["task"]["class"] = "etl_airflow.task_logs.handler.LokiTaskHandler"
