"""Watermark and runs of the orders, from the sink's ledger."""

from datetime import datetime

from orders_etl import ORDERS

from tests.harness.e2e.deployment import Deployment


def watermark(deployment: Deployment) -> datetime:
    """The watermark."""
    with deployment.site(ORDERS) as site:
        ((value,),) = site.query("SELECT [value] FROM [etl].[watermark] WHERE [pipeline] = N'orders'")
    return datetime.fromisoformat(str(value))


def windows(deployment: Deployment) -> dict[str, tuple[datetime, datetime]]:
    """The audited runs with their windows; the first begins at the beginning of time."""
    query = "SELECT [run_id], [window_low], [window_high] FROM [etl].[audit] WHERE [pipeline] = N'orders'"
    with deployment.site(ORDERS) as site:
        return {run_id: (low or datetime.min, high) for run_id, low, high in site.query(query)}
