"""Confirmed orders, from the operational Postgres into SQL Server. One more table is one more file like this."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG
from etl.model.pipeline import Pipeline
from etl_airflow.dag.factory import pipeline_dag

ORDERS = Pipeline(
    name="orders",
    source="public.orders",
    sink="dbo.orders",
    columns={
        "order_id": "bigint",
        "customer": "varchar(100)",
        "status": "varchar(16)",
        "currency": "char(3)",
        "amount": "numeric(12,2)",
        "note": "text null",
        "created_at": "timestamptz",
        "updated_at": "timestamptz",
    },
    key=["order_id"],
    version="updated_at",
    filter="status = 'confirmed'",
    look_back=timedelta(minutes=10),
)

dag: DAG = pipeline_dag(
    ORDERS,
    schedule="*/15 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    owner="data-platform",
)
