"""Permissions of the metrics exporter in the metadata database: no users, no connections, no variables.

    python -m etl_airflow.grants

The owner of the tables grants it, after each migration.
"""

from contextlib import closing

import etl_airflow.probe

ROLE = "airflow_exporter"
"""Created at the start of the server (k8s/base/metadata/roles.sql)."""
TABLES = ("dag", "dag_run", "job", "task_instance", "task_instance_history")
"""Tables that `etl export-metrics` queries."""


def main() -> None:
    """Grant them."""
    with closing(etl_airflow.probe.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}")
        cursor.execute(f"GRANT SELECT ON {', '.join(TABLES)} TO {ROLE}")


if __name__ == "__main__":
    main()
