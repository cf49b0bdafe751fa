"""Loki's rejections, with status and message: of a real one where it is given, else of the double.

The task logs' sender and Fluent Bit act by these: 400 is for good, 429 is for now.
"""

import json
import re
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.harness.logs.loki import LokiServer, loki_of_our_own, run_loki

HOUR = 3600 * 10**9
NARROW = {
    "ingestion_rate_mb": 1,
    "ingestion_burst_size_mb": 2,
    "per_stream_rate_limit": "256KB",
    "per_stream_rate_limit_burst": "512KB",
    "max_line_size": "1KB",
    "max_line_size_truncate": False,
    "max_global_streams_per_user": 8,
}
"""Limits that a test reaches, in place of those that are deployed."""
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
ASK = "contact your Loki administrator to see if the limit can be increased"


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiServer]:
    with run_loki(tmp_path_factory.mktemp("narrow"), NARROW) as server:
        yield server


def assert_refused(answer: tuple[int, str], status: int, *parts: str) -> None:
    """The parts are regular expressions, which the answer's words are together."""
    assert answer[0] == status, answer
    assert re.fullmatch("".join(parts), answer[1], re.DOTALL), answer[1]


def kept(loki: LokiServer, app: str) -> list[str]:
    return [line for _, line, _ in loki.lines(f'{{app="{app}"}}', minutes=72 * 60)]


def test_a_line_that_is_too_old_is_refused_and_the_others_are_kept(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    answer = loki.push(({"app": app}, [[str(now - 8 * 24 * HOUR), "old"], [str(now), "kept"]]))
    old = f"has timestamp too old: {STAMP}, oldest acceptable timestamp is: {STAMP}"
    assert_refused(answer, 400, f"entry for stream '{{app=\"{app}\"}}' {old}")
    assert kept(loki, app) == ["kept"]


def test_a_line_that_is_too_new_is_refused_and_the_others_are_kept(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    answer = loki.push(({"app": app}, [[str(now + HOUR), "new"], [str(now), "kept"]]))
    assert_refused(answer, 400, f"entry for stream '{{app=\"{app}\"}}' has timestamp too new: {STAMP}")
    assert kept(loki, app) == ["kept"]


def test_all_that_is_wrong_with_a_push_is_told(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    values = [[str(now + HOUR), "a"], [str(now + HOUR), "b"], [str(now - 9 * 24 * HOUR), "c"]]
    status, told = loki.push(({"app": app}, values))
    assert status == 400
    parts = sorted(re.sub(STAMP, "…", part) for part in told.split("; "))
    stream = f"errors like: entry for stream '{{app=\"{app}\"}}'"
    assert parts == [
        f"1 {stream} has timestamp too old: …, oldest acceptable timestamp is: …",
        f"2 {stream} has timestamp too new: …",
    ]


def test_a_line_three_days_behind_the_newest_of_its_stream_is_refused_alone(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    values = [[str(now), "newest"], [str(now - 71 * HOUR), "near"], [str(now - 73 * HOUR), "far"]]
    assert_refused(
        loki.push(({"app": app}, values)),
        400,
        r"entry with timestamp \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC ignored, reason: ",
        f"'entry too far behind, entry timestamp is: {STAMP}, oldest acceptable timestamp is: {STAMP}',\n",
        f"user 'fake', total ignored: 1 out of 3 for stream: {{app=\"{app}\"}}",
    )
    assert kept(loki, app) == ["near", "newest"]


def test_of_lines_too_far_behind_ten_are_named(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    loki.push(({"app": app}, [[str(now), "newest"]]))
    status, told = loki.push(({"app": app}, [[str(now - 73 * HOUR + number), "far"] for number in range(12)]))
    assert (status, told.count("too far behind")) == (400, 10)
    assert "total ignored: 12 out of 12" in told


def test_what_a_stream_before_the_last_of_a_push_met_with_is_not_told(loki: LokiServer, app: str) -> None:
    """Nor which lines it dropped: clients that must know push one stream at a time, as the task logs do."""
    now = time.time_ns()
    behind = ({"app": app, "n": "1"}, [[str(now), "newest"], [str(now - 73 * HOUR), "far"]])
    well = ({"app": app, "n": "2"}, [[str(now), "well"]])
    assert loki.push(behind, well) == (204, "")
    assert loki.push(well, behind)[0] == 400
    assert sorted(kept(loki, app)) == ["newest", "well"]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({}, "error at least one label pair is required per stream"),
        ({"app": ""}, "error at least one label pair is required per stream"),
        ({f"l{n}": "x" for n in range(9)}, r"entry for stream '{l0=\"x\", .*}' has 9 label names; limit 8"),
        ({"l" * 1025: "x"}, r"stream '{l+=\"x\"}' has label name too long: 'l+'"),
        ({"app": "x" * 2049}, r"stream '{app=\"x+\"}' has label value too long: 'x+'"),
        ({"a-b": "x"}, r"couldn't parse labels: .*"),
    ],
    ids=["none", "an empty one", "nine", "a long name", "a long value", "no name"],
)
def test_labels_that_are_none_or_too_many_are_refused(loki: LokiServer, labels: dict[str, str], told: str) -> None:
    assert_refused(loki.push((labels, [[str(time.time_ns()), "line"]])), 400, told)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (
            {"a": "x" * 70000},
            r"has structured metadata too large: '70001' bytes, limit: '65536' bytes\. .*_size` or .*",
        ),
        ({f"l{n}": "x" for n in range(129)}, r"has too many structured metadata labels: '129', limit: '128'\. .*"),
    ],
    ids=["bytes", "entries"],
)
def test_metadata_of_more_than_loki_takes_is_refused(
    loki: LokiServer, app: str, metadata: dict[str, str], told: str
) -> None:
    answer = loki.push(({"app": app}, [[str(time.time_ns()), "line", metadata]]))
    assert_refused(answer, 400, f"stream '{{app=\"{app}\"}}' ", told)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"streams": []}', 422),
        ("{}", 422),
        ('{"streams": [', 400),
        ("not json", 400),
        ('{"streams": [{"stream": {"app": "x"}, "values": [["no time", "line"]]}]}', 400),
        ('{"streams": [{"stream": {"app": "x"}, "values": [[1, "line"]]}]}', 400),
        ('{"streams": [{"stream": {"app": 1}, "values": [["1", "line"]]}]}', 400),
    ],
)
def test_a_push_that_is_none_is_refused(loki: LokiServer, body: str, status: int) -> None:
    assert loki.call("/loki/api/v1/push", body.encode(), "application/json")[0] == status


def test_a_line_that_is_too_long_is_cut(loki: LokiServer, app: str) -> None:
    assert loki.push(({"app": app}, [[str(time.time_ns()), "x" * (2**20 + 5)]])) == (204, "")
    assert kept(loki, app) == ["x" * 2**20]


@loki_of_our_own
def test_or_refused_where_loki_does_not_cut(narrow: LokiServer, app: str) -> None:
    now = str(time.time_ns())
    answer = narrow.push(({"app": app}, [[now, "é" * 600], [now, "kept"]]))
    told = f"for stream '{{app=\"{app}\"}}' while adding an entry with length '1200' bytes"
    assert_refused(answer, 400, f"max entry size '1024' bytes exceeded {told}")
    assert kept(narrow, app) == ["kept"]


@loki_of_our_own
def test_a_push_beyond_the_rate_is_refused_whole(narrow: LokiServer, app: str) -> None:
    now = time.time_ns()
    answer = narrow.push(({"app": app}, [[str(now + number), "x" * 1000] for number in range(2400)]))
    told = r"\(limit: 1048576 bytes/sec\) while attempting to ingest '2400' lines totaling '2400000' bytes"
    assert_refused(answer, 429, f"ingestion rate limit exceeded for user fake {told}, reduce log volume or {ASK}")
    assert kept(narrow, app) == []


@loki_of_our_own
def test_a_push_beyond_the_rate_of_its_stream_is_refused_whole(narrow: LokiServer, app: str) -> None:
    now = time.time_ns()
    status, told = narrow.push(({"app": app}, [[str(now + number), "x" * 1000] for number in range(700)]))
    limit = "Per stream rate limit exceeded (limit: 256KB/sec) while attempting to ingest for stream"
    assert (status, told.count(f'{limit} \'{{app="{app}"')) == (429, 10)
    assert f"totaling 1000B, consider splitting a stream via additional labels or {ASK}',\n" in told
    assert "user 'fake', total ignored: 700 out of 700 for stream" in told
    assert kept(narrow, app) == []


@loki_of_our_own
def test_one_stream_too_many_is_refused(narrow: LokiServer, app: str) -> None:
    now = str(time.time_ns())
    answers = [narrow.push(({"app": app, "n": str(number)}, [[now, "x"]])) for number in range(9)]
    assert answers[:-1] == [(204, "")] * 8
    told = rf"create stream {{app=\"{app}\", n=\"8\"}}, reduce the number of active streams"
    told += rf" \(reduce labels or reduce label values\), or {ASK}, user: 'fake'"
    assert_refused(answers[-1], 429, f"maximum active stream limit exceeded when trying to {told}")


A = '{app="a"}'
TOO_MANY = {"query": f"sum (count_over_time({A}[1m]))", "start": 1_900_000_000, "end": 1_900_011_001, "step": 1}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"query": '{app=~".*"}'}, "parse error : queries require at least one regexp or equality matcher .*"),
        ({"query": A, "limit": 5001}, r"max entries limit .*, .* \(5001 > 5000\)"),
        ({"query": A, "limit": 0}, "limit must be a positive value"),
        ({"query": A, "limit": "x"}, ".*"),
        ({"query": A, "start": "yesterday"}, ".*"),
        ({"query": A, "direction": "up"}, "invalid direction 'up'"),
        ({"query": A, "start": 2_000_000_000, "end": 1_900_000_000}, "end timestamp must not be before .*"),
        (TOO_MANY, "exceeded maximum resolution of 11,000 points .*"),
        ({"query": '{app="a"'}, ".*"),
        ({"query": f"{A} |= x"}, ".*"),
        ({"query": f'{A} |~ "("'}, ".*"),
        ({"query": '{app="\\d"}'}, ".*"),
        ({"query": ""}, ".*"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_query_that_loki_does_not_answer_is_refused(loki: LokiServer, asked: dict[str, str | int], told: str) -> None:
    assert_refused(loki.call(f"/loki/api/v1/query_range?{urlencode(asked)}"), 400, told)


def test_a_query_over_more_than_a_month_is_refused(loki: LokiServer) -> None:
    now = time.time_ns()
    asked = urlencode({"query": A, "start": now - 24 * HOUR, "end": now + 31 * 24 * HOUR})
    told = r"the query time range exceeds the limit \(query length: 768h0m0s, limit: 31d\)"
    assert_refused(loki.call(f"/loki/api/v1/query_range?{asked}"), 400, told)


def test_more_than_fits_in_an_answer_is_an_error_and_fewer_lines_are_not(loki: LokiServer, app: str) -> None:
    """Which the reader of task logs takes as a reason to ask for fewer."""
    now = time.time_ns()
    for part in range(6):
        values = [[str(now + part * 10 + number), "x" * 300_000] for number in range(10)]
        assert loki.push(({"app": app}, values)) == (204, "")
    asked = {"query": f'{{app="{app}"}}', "end": now + 1000}
    answer = loki.call(f"/loki/api/v1/query_range?{urlencode({**asked, 'limit': 60})}")
    told = r"trying to send message larger than max \(\d+ vs\. 16777216\)"
    assert_refused(answer, 500, ".*code = ResourceExhausted desc = ", told)
    assert loki.call(f"/loki/api/v1/query_range?{urlencode({**asked, 'limit': 50})}")[0] == 200


def test_a_line_that_is_no_json_fails_the_counting_of_its_fields(loki: LokiServer, app: str) -> None:
    loki.push(({"app": app}, [[str(time.time_ns()), "plain"]]))
    query = f'sum by (level) (count_over_time({{app="{app}"}} | json level="level" [1m]))'
    status, told = loki.call(f"/loki/api/v1/query_range?{urlencode({'query': query, 'step': 10})}")
    assert (status, "pipeline error: 'JSONParserErr' for series" in told) == (400, True)


@pytest.mark.parametrize(
    "query",
    [
        f"rate({A}[1m])",
        f"count_over_time({A}[1m])",
        f"topk(5, sum by (app) (count_over_time({A}[1m])))",
        f"{A} | json",
        f"{A} | logfmt",
        f'{A} | line_format "x"',
        f"{A} | level > 5",
        f'{A} |= "x" or "y"',
        f'{A} | level=~""',
        f'{A} | level=~"err.*"',
        f'{A} |~ "x$"',
        f'{A} | json level="a.b"',
    ],
)
def test_logql_that_only_loki_reads_is_refused_by_the_double_in_words(loki: LokiServer, query: str) -> None:
    status, told = loki.call(f"/loki/api/v1/query_range?{urlencode({'query': query})}")
    if status == 200:
        assert json.loads(told)["status"] == "success"
    else:
        assert (status, told.startswith("the double of Loki's API does not implement")) == (400, True)
