"""Queries over a range of time: of lines, or of their numbers."""

import json
import re
import time
from bisect import bisect_right
from itertools import islice
from typing import Any

from . import RefusedError, not_implemented
from .limits import HOUR, SECOND, Limits, amount, duration_text
from .logql import Labels, Query, parse
from .store import Store

_ERROR = """pipeline error: '{0}' for series: '{1}'.
Use a label filter to intentionally skip this error. (e.g | __error__!="{0}").
To skip all potential errors you can match empty errors.(e.g __error__="")"""


def query_range(store: Store, limits: Limits, asked: dict[str, str], tenants: list[str]) -> dict[str, Any]:
    """The answer of /loki/api/v1/query_range. Raises RefusedError."""
    if unknown := asked.keys() - {"query", "start", "end", "limit", "direction", "step"}:
        raise not_implemented(f"the parameter {', '.join(sorted(unknown))} of a query")
    now = time.time_ns()
    end = _time(asked.get("end"), now)
    start = _time(asked.get("start"), min(end, now) - HOUR)
    if end < start:
        raise RefusedError("end timestamp must not be before or equal to start time")
    limit = int(asked.get("limit") or 100)
    if limit <= 0:
        raise RefusedError("limit must be a positive value")
    direction = asked.get("direction") or "backward"
    if direction not in ("forward", "backward"):
        raise RefusedError(f"invalid direction '{direction}'")
    step = _step(asked.get("step")) or max((end - start) // (250 * SECOND), 1) * SECOND
    if (end - start) // step > 11000:
        detail = "11,000 points per time series. Try increasing the value of the step parameter"
        raise RefusedError(f"exceeded maximum resolution of {detail}")
    query = parse(asked.get("query", ""))
    if not query.window and limit > (most := limits.max_entries_limit_per_query):
        detail = f"limit > max_entries_limit_per_query ({limit} > {most})"
        raise RefusedError(f"max entries limit per query exceeded, {detail}")
    if limits.max_query_lookback:
        start = max(start, min(end, now - limits.max_query_lookback))
    if end - start > limits.max_query_length:
        detail = f"query length: {duration_text(end - start)}, limit: {limits.max_query_length // (24 * HOUR)}d"
        raise RefusedError(f"the query time range exceeds the limit ({detail})")
    if not query.window:
        found = list(islice(store.find(query, start, end, tenants, forward=direction == "forward"), limit))
        return _answer("streams", _streams(found, limits.grpc_server_max_send_msg_size))
    # From one whole step to another.
    return _answer(
        "matrix", _numbers(store, query, tenants, range(start // step * step, -(-end // step) * step + 1, step))
    )


def _streams(found: list[tuple[int, str, Labels]], most: int) -> list[dict[str, Any]]:
    size = sum(len(line.encode()) for _, line, _ in found)
    if size > most:
        detail = f"trying to send message larger than max ({size} vs. {most})"
        raise RefusedError(f"rpc error: code = ResourceExhausted desc = {detail}", 500)
    streams: dict[str, dict[str, Any]] = {}
    for at, line, labels in found:
        stream = streams.setdefault(json.dumps(labels, sort_keys=True), {"stream": labels, "values": []})
        stream["values"].append([str(at), line])
    return [streams[labels] for labels in sorted(streams)]


def _numbers(store: Store, query: Query, tenants: list[str], times: range) -> list[dict[str, Any]]:
    """At each time how many lines there are in the window that ends with it."""
    found: dict[tuple[str, ...], list[int]] = {}
    for at, _, labels in store.find(query, times[0] - query.window + 1, times[-1] + 1, tenants):
        if error := labels.get("__error__"):
            raise RefusedError(_ERROR.format(error, json.dumps(labels)))
        found.setdefault(tuple(labels.get(name, "") for name in query.by), []).append(at)
    series = []
    for key, ats in sorted(found.items()):
        counts = ((at, bisect_right(ats, at) - bisect_right(ats, at - query.window)) for at in times)
        metric = {name: value for name, value in zip(query.by, key, strict=True) if value}
        series.append({"metric": metric, "values": [[_seconds(at), str(count)] for at, count in counts if count]})
    return [each for each in series if each["values"]]


def _answer(kind: str, result: list[dict[str, Any]]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result, "stats": {}}}


def _seconds(at: int) -> float:
    return at / SECOND if at % SECOND else at // SECOND


def _step(text: str | None) -> int:
    return int(float(text) * SECOND) if re.fullmatch(r"\d+(\.\d+)?", text or "") else amount(text or 0)  # type: ignore[arg-type]


def _time(text: str | None, default: int) -> int:
    if not text:
        return default
    if not re.fullmatch(r"\d+", text):
        raise not_implemented(f"the time {text}; seconds and nanoseconds it does")
    return int(text) * SECOND if len(text) <= 10 else int(text)
