"""What the metrics exporter may read of the metadata database: no users, no connections, no variables.

    python -m etl_airflow.grants

The owner of the tables grants it, after each migration.
"""

from contextlib import closing

import etl_airflow.probe

ROLE = "airflow_exporter"
"""Made where the server starts (k8s/base/metadata/roles.sql)."""
TABLES = ("dag", "dag_run", "job", "task_instance", "task_instance_history")
"""Those that `etl export-metrics` asks."""


def main() -> None:
    """Grant it."""
    with closing(etl_airflow.probe.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}")
        cursor.execute(f"GRANT SELECT ON {', '.join(TABLES)} TO {ROLE}")


if __name__ == "__main__":
    main()
