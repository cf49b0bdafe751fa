"""A worker waits for the API server, and for DNS to know it, as long as a machine takes to come back."""

import os
import subprocess
import sys

from dev.sandbox.stack import ROOT

WAITS = """
import httpx, random
from airflow.sdk.api.client import Client
random.seed(1)
waited = []
Client.request.retry.sleep = waited.append
def no_name(request):
    raise httpx.ConnectError("[Errno -3] Temporary failure in name resolution")
client = Client(base_url="http://airflow-api-server:8080/execution/", token="", transport=httpx.MockTransport(no_name))
try:
    client.get("any")
except httpx.ConnectError:
    print(sum(waited))
"""


def test_a_worker_asks_for_minutes_and_gives_up_before_its_task_counts_as_dead() -> None:
    lines = (ROOT / "k8s" / "base" / "airflow" / "common.env").read_text().splitlines()
    deployed = dict(line.split("=", 1) for line in lines if line.startswith("AIRFLOW__WORKERS__"))
    ran = subprocess.run(
        [sys.executable, "-c", WAITS], env=os.environ | deployed, capture_output=True, text=True, check=True
    )
    # [scheduler] task_instance_heartbeat_timeout is 300.
    assert 120 < float(ran.stdout.splitlines()[-1]) < 300
