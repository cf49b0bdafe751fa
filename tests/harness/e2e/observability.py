"""A client of Prometheus, Alertmanager and Loki on the cluster."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ops.cluster.kubectl import OBSERVABILITY
from tests.harness.direct import DIRECT
from tests.harness.e2e.deployment import Deployment, wait_for
from tests.harness.metrics.queries import Query

FAILING_DAG = "fails_unless_mended"
ALERTS = {
    "DagFailing": {"dag_id": FAILING_DAG},
    "RejectsAboveTolerance": {"pipeline": "orders"},
    "ImagePullFailing": {"pod": "no-such-image"},
    "PodOomKilled": {"pod": "hungry"},
    "SchedulerSilent": {},
}
"""The alerts that the end-to-end tests cause, with the labels of their objects."""


@dataclass(frozen=True)
class Watching:
    """Open ports to the three."""

    prometheus: str
    alertmanager: str
    loki: str

    def metrics(self, query: str) -> list[dict[str, Any]]:
        """Result of an instant query of Prometheus."""
        return list(_get(f"{self.prometheus}/api/v1/query", query=query)["data"]["result"])

    def metrics_since(self, query: str, since: float) -> list[dict[str, Any]]:
        """Result of a range query of Prometheus from a time (seconds of the epoch) until now, a value each 15 s."""
        span = {"start": f"{since:.0f}", "end": f"{time.time():.0f}", "step": "15"}
        return list(_get(f"{self.prometheus}/api/v1/query_range", query=query, **span)["data"]["result"])

    def answer(self, query: Query) -> list[Any]:
        """The response of either server. Fails the test on an error."""
        return self.metrics(query.text) if query.language == "promql" else self.logs(query.text)

    def alerts(self) -> set[str]:
        """Names of the alerts that Alertmanager has."""
        return {alert["labels"]["alertname"] for alert in self.details()}

    def details(self) -> list[dict[str, Any]]:
        """Those alerts."""
        return list(_get(f"{self.alertmanager}/api/v2/alerts", active="true"))

    def await_calm(self, name: str, **labels: str) -> None:
        """Wait until that alert is resolved."""
        wait_for(f"the end of the alert {name}", lambda: not self.with_labels(name, **labels), seconds=420)

    def with_labels(self, name: str, **labels: str) -> list[dict[str, Any]]:
        """The alerts of a name that have these labels too."""
        return [alert for alert in self.details() if {"alertname": name, **labels}.items() <= alert["labels"].items()]

    def logs(self, query: str) -> list[Any]:
        """Lines of the last hour from Loki."""
        now = time.time()
        span = {"start": f"{now - 3600:.0f}", "end": f"{now + 60:.0f}", "limit": "1000", "step": "60"}
        return list(_get(f"{self.loki}/loki/api/v1/query_range", query=query, **span)["data"]["result"])


@contextmanager
def watching(deployment: Deployment) -> Iterator[Watching]:
    """Ports to Prometheus, Alertmanager and Loki, until the block ends."""
    with (
        deployment.forwarded("prometheus", 9090, OBSERVABILITY) as prometheus,
        deployment.forwarded("alertmanager", 9093, OBSERVABILITY) as alertmanager,
        deployment.forwarded("loki", 3100, OBSERVABILITY) as loki,
    ):
        yield Watching(*(f"http://127.0.0.1:{port}" for port in (prometheus, alertmanager, loki)))


def _get(url: str, **parameters: str) -> Any:
    response = DIRECT.get(url, params=parameters)
    assert response.is_success, f"{url} answers {response.status_code} to {parameters}: {response.text}"
    return response.json()
