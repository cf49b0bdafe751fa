"""Pipelines for tests: orders, and one with every type and a composite key."""

from datetime import UTC, datetime
from typing import Any

from etl.model.pipeline import Pipeline
from etl.model.window import Partition, Window

ORDERS: dict[str, Any] = {
    "name": "orders",
    "source": "public.orders",
    "sink": "dbo.orders",
    "columns": {
        "order_id": "bigint",
        "customer": "varchar(100)",
        "status": "varchar(16)",
        "currency": "char(3)",
        "amount": "numeric(12,2)",
        "note": "text null",
        "created_at": "timestamptz",
        "updated_at": "timestamptz",
    },
    "key": ["order_id"],
    "version": "updated_at",
    "filter": "status = 'confirmed'",
}

EVERYTHING: dict[str, Any] = {
    "name": "everything",
    "source": "public.Every Thing",
    "sink": "dbo.Every Thing",
    "columns": {
        "region": "varchar(8)",
        "serial": "uuid",
        "small": "smallint null",
        "medium": "integer null",
        "big": "bigint null",
        "money": "numeric(38,10) null",
        "ratio": "real null",
        "precise": "double precision null",
        "active": "boolean",
        "text": "text null",
        "short": "varchar(10) null",
        "code": "char(4) null",
        "day": "date null",
        "clock": "time null",
        "local": "timestamp",
        "moment": "timestamptz null",
        "raw": "bytea null",
        "doc": "jsonb null",
        "plain_doc": "json null",
        "naïve name": "text null",
    },
    "key": ["region", "serial"],
    "version": "local",
    "filter": "active AND region <> 'test'",
}


def make(definition: dict[str, Any], **changes: Any) -> Pipeline:
    """A pipeline from a definition, with some settings changed."""
    return Pipeline.model_validate({**definition, **changes})


def window(low: str | None = None, high: str = "2100-01-01T00:00:00Z") -> Window:
    """A window between two times in ISO 8601."""
    return Window.model_validate({"low": low, "high": high})


def whole(high: datetime = datetime(2100, 1, 1, tzinfo=UTC), low: datetime | None = None) -> Partition:
    """The partition of an undivided window."""
    return Partition(window=Window(low=low, high=high))
