"""Links between dashboards, and to Airflow."""

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

TAG = "orders-to-sql-server"
AIRFLOW = "../../../.."
"""Airflow's UI is at the root of the host that has Grafana at /grafana, so dashboards need no host name."""

Links = list[Builder[dashboard.DashboardLink]]


def between_dashboards() -> DashboardLink:
    """Links in a dashboard's head to all others, keeping the time range."""
    return DashboardLink("Dashboards").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)


def to_airflow(title: str, path: str) -> DashboardLink:
    """A link to a page of Airflow's UI, in a new tab."""
    return DashboardLink(title).type(DashboardLinkType.LINK).url(f"{AIRFLOW}{path}").target_blank(True)


def to_dashboard(title: str, uid: str, variables: str = "") -> DashboardLink:
    """A link to another dashboard with the same time range; `variables`: query string `var-name=value&…`."""
    url = f"/d/{uid}?${{__url_time_range}}" + (f"&{variables}" if variables else "")
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url)


_DAG, _RUN, _TASK = (f"${{__data.fields.{name}:percentencode}}" for name in ("dag_id", "run_id", "task_id"))
"""Ids of a table's row that was clicked."""
TASK_LOGS = to_dashboard("Lines of this task", "logs", f"var-dag_id={_DAG}&var-task_id={_TASK}")
TASK_IN_AIRFLOW = to_airflow("This task in Airflow", f"/dags/{_DAG}/tasks/{_TASK}")
RUN_LOGS = to_dashboard("The lines of this run", "logs", f"var-dag_id={_DAG}&var-run_id={_RUN}")
RUN_IN_AIRFLOW = to_airflow("This run in Airflow", f"/dags/{_DAG}/runs/{_RUN}")
