"""The record of the source's open transactions, so that a run begins early enough to read what they commit late.

A transaction that is open while a run reads may commit rows whose version is before the end of that run's window. So
beside the watermark the ledger keeps from which version on such rows can appear. A row gets its version when it is
written, after its transaction got its id: a row of a transaction with a later id than any in a snapshot was written
after that snapshot.
"""

from datetime import datetime, timedelta

from etl.model.window import Settled, Window


def settle(
    left: Settled | None, begin: datetime | None, window: Window, look_back: timedelta, snapshot: tuple[int, int]
) -> tuple[Settled | None, str]:
    """The record that a run over this window leaves, and a warning, empty if there is none.

    `left` is the record of the run before; `begin` the version after which this run would begin without a look-back.
    `snapshot` has the lowest id of an open transaction, and the lowest id that no transaction has yet.
    """
    xmin, xmax = snapshot
    if window.low is not None and (begin is None or window.low > begin - look_back):
        return left, ""  # not all was read that was to be
    if xmin == xmax:
        return Settled(value=window.high, pending=window.high, xmax=xmax), ""
    if left is None:
        # How old the open ones are is not known; they are taken to have begun since the last run.
        return Settled(value=begin or window.high, pending=window.high, xmax=xmax), ""
    if left.xmax <= xmin:
        return Settled(value=left.pending, pending=window.high, xmax=xmax), ""
    warning = (
        f"A transaction of the source has been open since {left.pending} or before, and may still write versions from"
        f" then on: runs read again from {left.value} until it ends. See pg_stat_activity and pg_prepared_xacts there."
    )
    return left, warning
