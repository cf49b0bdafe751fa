"""DAGs that write, and fail, as the tests want it. The tests put this file beside the others."""

import time

import pendulum
from airflow.sdk import DAG, task

START = pendulum.datetime(2026, 1, 1, tz="UTC")

with DAG("ten_thousand_lines", schedule=None, start_date=START):

    @task(retries=0)
    def write() -> None:
        for number in range(10_000):
            print(f"line {number:05d}")

    write()

with DAG("slow_lines", schedule=None, start_date=START, params={"seconds": 180}):

    @task(retries=0)
    def write_slowly(seconds: str) -> None:
        for number in range(20 * int(seconds)):
            print(f"line {number:05d}", flush=True)
            time.sleep(0.05)

    write_slowly("{{ params.seconds }}")

with DAG("fails_unless_mended", schedule=None, start_date=START, params={"mended": False}):

    @task(retries=0)
    def fail(mended: str) -> None:
        if mended != "True":
            raise ValueError("This task fails unless it is mended.")

    fail("{{ params.mended }}")
