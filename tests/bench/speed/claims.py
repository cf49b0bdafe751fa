"""The claims about speed, checked against the figures."""

from collections.abc import Callable, Iterator

from tests.bench.speed.contenders import CONTENDERS, COPY, NAIVE, OURS, READ
from tests.bench.speed.document import Claim
from tests.bench.speed.figures import (
    Figures,
    Series,
    Spread,
    growth,
    least_ratio,
    number,
    slower_limit,
    speed_ratio,
    told,
)

OF_LIMIT, OF_NAIVE, OF_PEER = 0.6, 20, 5
MOST_GROWTH = 1.25
"""How much longer a row may take among 10 million than among 1 million: nothing but noise and the index's depth."""
MOST_MB = 300
_SIZES = (1_000_000, 10_000_000)


def claims(figures: Figures) -> list[Claim]:
    """Each claim with its figure."""
    return [*_of_limit(figures), _linear(figures), *_of_naive(figures), *_of_peers(figures), _memory(figures)]


def _of_limit(figures: Figures) -> Iterator[Claim]:
    for rows in _SIZES:
        limit = slower_limit(figures, "narrow", rows, [READ, COPY])
        of_which = f" ({limit.contender})" if limit else ""
        claim = f"{rows:,} rows: at least {OF_LIMIT} of the raw limit of the slower side{of_which}"
        yield _compared(claim, figures.find(OURS, "narrow", rows), limit, speed_ratio, OF_LIMIT)


def _of_naive(figures: Figures) -> Iterator[Claim]:
    for rows in _SIZES:
        yield _faster(figures, rows, NAIVE, f"the {NAIVE}", OF_NAIVE)


def _of_peers(figures: Figures) -> Iterator[Claim]:
    for peer in CONTENDERS:
        if peer.kind == "peer":
            yield _faster(figures, _SIZES[0], peer.name, peer.name, OF_PEER)


def _faster(figures: Figures, rows: int, name: str, called: str, least: float) -> Claim:
    """By wall time, as the others; and beside it without the CPU time of the SQL Server double."""
    claim = f"{rows:,} rows: at least {least} times {called}"
    ours, other = figures.find(OURS, "narrow", rows), figures.find(name, "narrow", rows)
    found = _compared(claim, ours, other, speed_ratio, least)
    if ours and other and any(run.sink_cpu_s is not None for run in other.runs):
        bound = least_ratio(ours, other).median
        found.measured += f"; at least {number(bound)}"
        found.remark = "on the double" if found.holds and bound < least else ""
    return found


def _linear(figures: Figures) -> Claim:
    claim = f"Time grows linearly to {_SIZES[1]:,} rows: a row takes at most {MOST_GROWTH} times as long"
    small, large = (figures.find(OURS, "narrow", rows) for rows in _SIZES)
    if small is None or large is None:
        return Claim(claim=claim, measured="", holds=None)
    measured = growth(small, large)
    return Claim(claim=claim, measured=told(measured), holds=measured.median <= MOST_GROWTH)


def _memory(figures: Figures) -> Claim:
    ours = [series for series in figures.series if series.contender.startswith(OURS)]
    claim = f"Peak memory below {MOST_MB} MB at every size"
    if not ours:
        return Claim(claim=claim, measured="", holds=None)
    peak, rows, table = max((run.peak_mb, each.rows, each.table) for each in ours for run in each.runs)
    return Claim(claim=claim, measured=f"{peak:.0f} MB at most ({rows:,} rows, {table})", holds=peak < MOST_MB)


def _compared(
    claim: str, ours: Series | None, other: Series | None, ratio: Callable[[Series, Series], Spread], least: float
) -> Claim:
    if ours is None or other is None:
        return Claim(claim=claim, measured="", holds=None)
    measured = ratio(ours, other)
    return Claim(claim=claim, measured=told(measured), holds=measured.median >= least)
