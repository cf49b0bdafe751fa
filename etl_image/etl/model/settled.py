"""The record of the source's open transactions, so that a run begins early enough to read what they commit late.

A transaction that is open while a run reads may commit rows whose version is before the end of that run's window. So
beside the watermark the ledger keeps from which version on such rows can appear. A row gets its version when it is
written, after its transaction got its id: a row of a transaction with a later id than any in a snapshot was written
after that snapshot.
"""

from etl.model.version_kind import Reach, Version, before, is_after
from etl.model.window import Settled, Window


def settle(
    left: Settled | None, begin: Version | None, window: Window, reach: Reach, snapshot: tuple[int, int]
) -> tuple[Settled | None, str]:
    """The record that a run over this window leaves, and a warning, empty if there is none.

    `left` is the record of the run before; `begin` the version after which this run would begin if it did not look back
    by `reach`. `snapshot` has the lowest id of an open transaction, and the lowest id that no transaction has yet.
    """
    xmin, xmax = snapshot
    if window.low is not None:
        low = None if begin is None else before(begin, reach)
        if low is None or is_after(window.low, low):
            return left, ""  # not all was read that was to be
    if xmin == xmax:
        return Settled(value=window.high, pending=window.high, xmax=xmax), ""
    if left is None:
        # How old the open ones are is not known; they are taken to have begun since the last run.
        return Settled(value=window.high if begin is None else begin, pending=window.high, xmax=xmax), ""
    if left.xmax <= xmin:
        return Settled(value=left.pending, pending=window.high, xmax=xmax), ""
    since = f"the number {left.pending}" if isinstance(left.pending, int) else left.pending
    warning = (
        f"A transaction of the source has been open since {since} or before, and may still write versions from"
        f" then on: runs read again from {left.value} until it ends. See pg_stat_activity and pg_prepared_xacts there."
    )
    return left, warning
