"""PromQL queries shared by the dashboards. `where` selects by labels, `by` groups; both may be empty."""

BAR = "15m"
"""Duration of a bar."""
SHOWN = "$__range"
"""The time range of the dashboard."""


def events(counter: str, by: str = "", where: str = "", over: str = BAR) -> str:
    """Increase of a counter. Rounded: Prometheus extrapolates to the ends of the range."""
    return f"round({_increase(counter, by, where, over)})"


def events_shown(counter: str, where: str = "") -> str:
    """Increase of a counter in the time range of the dashboard; zero if there is no such counter yet."""
    return f"{events(counter, where=where, over=SHOWN)} or vector(0)"


def highest(gauge: str, by: str = "", where: str = "") -> str:
    """The highest of a gauge's values."""
    return f"max{_grouped(by)}({gauge}{_selected(where)})"


def a_second(counter: str, by: str = "", where: str = "") -> str:
    """Rate of a counter, per second."""
    return f"sum{_grouped(by)}(rate({counter}{_selected(where)}[$__rate_interval]))"


def mean(histogram: str, by: str = "", where: str = "", over: str = "1h") -> str:
    """Mean of a histogram."""
    total, count = (_increase(f"{histogram}_{part}", by, where, over) for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def slowest(histogram: str, by: str, where: str = "", over: str = "1h") -> str:
    """95th percentile of a histogram."""
    return f"histogram_quantile(0.95, {_increase(f'{histogram}_bucket', f'le, {by}', where, over)})"


def _increase(counter: str, by: str, where: str, over: str) -> str:
    return f"sum{_grouped(by)}(increase({counter}{_selected(where)}[{over}]))"


def _grouped(by: str) -> str:
    return f" by ({by}) " if by else ""


def _selected(where: str) -> str:
    return f"{{{where}}}" if where else ""
