"""[logging] logging_config_class = etl_airflow.task_logs.config.LOGGING_CONFIG: Airflow's own, with task logs in Loki.

LOKI_URL            where Loki is read; empty: task logs are files only, as Airflow has it by itself
LOKI_PUSH_URL       where lines are sent to; LOKI_URL
LOKI_EXIT_SECONDS   how long a worker that ended its task tries to send the last lines; 300
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
