"""The lines of a step's pod are in the task's log once, with their time and fields, however reading is interrupted."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from etl_airflow.pods.log_follower import Follower, write_line
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError


def stamped(number: int, fraction: str = "") -> str:
    return f"2026-01-01T00:{number // 60:02}:{number % 60:02}{fraction}Z line {number}\n"


class Pod:
    """A container's log, of which each reading gives up to a byte, and then breaks off or ends."""

    def __init__(self, log: str, *cuts: int, error: Callable[[], Exception] | None = None) -> None:
        self._log, self._cuts, self._error = log.encode(), list(cuts), error
        self.since: list[int | None] = []

    def read(self, seconds: int | None, ended: bool) -> Iterator[bytes]:
        self.since.append(seconds)
        end = self._cuts.pop(0) if self._cuts else len(self._log)
        for begin in range(0, end, 7):  # in pieces that end anywhere
            yield self._log[begin : min(begin + 7, end)]
        if self._cuts and self._error:
            raise self._error()

    def ended(self) -> bool:
        return not self._cuts

    def follow(self) -> tuple[str, list[str]]:
        lines: list[str] = []
        problem = Follower(self.read, self.ended, lambda _, line: lines.append(line), pause=0).follow()
        return problem, lines


LOG = "".join(stamped(number) for number in range(100))
ALL = [f"line {number}" for number in range(100)]


def test_all_lines_of_a_pod_that_ends_are_read() -> None:
    assert Pod(LOG, len(LOG), len(LOG)).follow() == ("", ALL)


@pytest.mark.parametrize("error", [None, lambda: ProtocolError("broken"), lambda: ApiException(status=502)])
@pytest.mark.parametrize("cuts", [(0, 0), (10, 500, 501, 1700), (28, 29, 30, 56), (len(LOG) - 1, len(LOG))])
def test_no_line_is_lost_or_doubled_wherever_reading_breaks_off(
    error: Callable[[], Exception] | None, cuts: tuple[int, ...]
) -> None:
    pod = Pod(LOG, *cuts, error=error)
    assert pod.follow() == ("", ALL)


def test_after_a_break_only_the_last_part_is_asked_for() -> None:
    pod = Pod(LOG, 500, 600)
    pod.follow()
    first, *later = pod.since
    assert first is None
    assert all(seconds is not None and seconds >= 60 for seconds in later)


def test_lines_of_one_time_are_told_apart_by_their_number() -> None:
    log = "".join(f"2026-01-01T00:00:00.5Z the same {number // 3}\n" for number in range(12))
    expected = [f"the same {number // 3}" for number in range(12)]
    for cut in range(0, len(log), 11):
        assert Pod(log, cut, cut + 20).follow() == ("", expected)


def test_time_stamps_that_leave_out_zeros_are_in_order() -> None:
    fractions = ["", ".000000001", ".1", ".100000001", ".12", ".2"]
    log = "".join(stamped(0, fraction) for fraction in fractions)
    for cut in range(0, len(log), 5):
        assert Pod(log, cut, cut).follow() == ("", ["line 0"] * 6)


def test_a_node_may_have_any_zone_and_put_its_clock_back() -> None:
    """At three in the morning of summer time it is two again, a second later."""
    times = ["2026-10-25T02:59:59+02:00", "2026-10-25T02:59:59.5+02:00", "2026-10-25T02:00:00+01:00"]
    log = "".join(f"{time} line {number}\n" for number, time in enumerate(times))
    for cut in range(0, len(log), 5):
        assert Pod(log, cut, cut).follow() == ("", ["line 0", "line 1", "line 2"])
    stamps: list[str] = []
    follower = Follower(Pod(log).read, lambda: True, lambda stamp, _: stamps.append(stamp), pause=0)
    assert follower.follow() == ""
    assert stamps == [
        f"2026-10-25T{time}Z" for time in ("00:59:59.000000000", "00:59:59.500000000", "01:00:00.000000000")
    ]
    assert [time.isoformat() for time in follower.times] == ["2026-10-25T00:59:59+00:00", "2026-10-25T01:00:00+00:00"]


def test_a_last_line_without_a_newline_is_read() -> None:
    assert Pod(LOG.rstrip("\n"), 100).follow() == ("", ALL)


def test_lines_older_than_the_one_before_are_not_taken_for_seen() -> None:
    """Stdout and stderr are stamped by themselves."""
    log = stamped(5) + stamped(3) + stamped(6)
    assert Pod(log).follow() == ("", ["line 5", "line 3", "line 6"])


def test_a_pod_that_is_gone_does_not_keep_the_task() -> None:
    def gone(*_: object) -> Iterator[bytes]:
        raise ApiException(status=404, reason="Not Found")

    assert Follower(gone, lambda: True, print, pause=0).follow() == "ApiException: Not Found"


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[int, str, dict[str, Any]]] = []

    def log(self, level: int, event: Any, *args: Any, **kw: Any) -> None:
        self.lines.append((level, event, kw))


STAMP = "2026-01-01T00:00:00.123456789Z"


def written(line: str) -> tuple[int, str, dict[str, Any]]:
    log = Log()
    write_line(log, line, STAMP)
    return log.lines[0]


def test_json_lines_keep_their_level_time_and_fields() -> None:
    fields = {"pipeline": "orders", "step": "load", "partition": "0001", "run_id": "r", "rows": 4000}
    line = {"event": "100 % done", "level": "warning", "timestamp": "2026-01-01T03:00:00+03:00", **fields}
    assert written(json.dumps(line)) == (logging.WARNING, "100 % done", {**fields, "timestamp": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize("line", ["plain text, 100 %s", "[1, 2]", "3", '{"no": "event"}', '{"event": 5}', "{", ""])
def test_other_lines_are_logged_as_they_are(line: str) -> None:
    level, event, fields = written(line)
    assert (level, event) == (logging.INFO, line)
    assert fields == {"timestamp": "2026-01-01T00:00:00.123456Z"}


def test_fields_that_would_break_the_log_are_renamed() -> None:
    """The supervisor takes `exception` apart, and a time that is none ends its reading of the log."""
    line = {"event": "x", "exception": "Traceback …", "self": 1, "exc_info": True, "timestamp": "yesterday"}
    _, _, fields = written(json.dumps(line))
    assert fields == {
        "exception_": "Traceback …", "self_": 1, "exc_info_": True, "timestamp": "2026-01-01T00:00:00.123456Z"
    }  # fmt: skip
