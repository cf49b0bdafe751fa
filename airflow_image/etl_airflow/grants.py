"""Permissions of the metrics exporter in the metadata database: no users, no connections, no variables; and pools.

    python -m etl_airflow.grants

The owner of the tables grants it, after each migration. The pool of verifications is created where it is not there;
its slots can be changed in Airflow.
"""

from contextlib import closing

import etl_airflow.probe

POOL, SLOTS = "verify", 1
"""The pool of the DAGs that verify (etl_airflow.dag.verify_dag)."""
ROLE = "airflow_exporter"
"""Created at the start of the server (k8s/base/metadata/roles.sql)."""
TABLES = ("dag", "dag_run", "job", "task_instance", "task_instance_history")
"""Tables that `etl export-metrics` queries."""


def main() -> None:
    """Grant them."""
    with closing(etl_airflow.probe.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}")
        cursor.execute(f"GRANT SELECT ON {', '.join(TABLES)} TO {ROLE}")
        cursor.execute(
            "INSERT INTO slot_pool (pool, slots, description, include_deferred)"
            " SELECT %s, %s, 'verifications, one after the other', true"
            " WHERE NOT EXISTS (SELECT 1 FROM slot_pool WHERE pool = %s)",
            (POOL, SLOTS, POOL),
        )


if __name__ == "__main__":
    main()
