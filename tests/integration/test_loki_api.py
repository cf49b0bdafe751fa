"""Loki's API as far as the project relies on it: claims about Loki, and about its double in tests.

With LOKI_PROGRAM or LOKI_URL a real Loki has to keep them. What it refuses is in test_loki_refusals.py.
"""

import json
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.harness.logs.loki import LokiServer, loki_of_our_own, real_loki, run_loki

SECOND = 10**9
HOUR = 3600 * SECOND
Line = tuple[int, str, dict[str, str], str]
"""Seconds ago, text, metadata, and which of two streams it is of."""
Filter = tuple[str, Callable[[str, dict[str, str]], bool]]
"""A stage of a query, and whether a line with these labels passes it."""


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Of an empty line that has a chunk for itself Loki finds nothing; nothing here sends one.
texts = st.sampled_from(["a", "b", "ab", "é", "a\nb"]) | words.filter(bool)
short = st.sampled_from(["", "a", "b", "ab", "é", "a\nb", '"', "\\", "manual__2026-01-01T00:00:00+00:00"])
metadata = st.dictionaries(st.sampled_from(["run_id", "path"]), short | words, max_size=2)
lines = st.lists(
    st.tuples(st.integers(0, 300), texts, metadata, st.sampled_from(["one", "two"])), min_size=1, max_size=12
)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    mark, text = draw(st.sampled_from(["|=", "!=", "|~", "!~"])), draw(short)
    is_positive = mark.startswith("|")
    value = json.dumps(re.escape(text) if "~" in mark else text, ensure_ascii=False)
    if draw(st.booleans()):
        return f"{mark} {value}", lambda line, _: (text in line) is is_positive
    # In Loki every label matches an empty regular expression.
    assume(text or "~" not in mark)
    name = draw(st.sampled_from(["run_id", "path", "absent"]))
    compared = f"| {name} {mark.replace('|=', '=').replace('|~', '=~')} {value}"
    return compared, lambda _, labels: (labels.get(name, "") == text) is is_positive


@settings(max_examples=100)
@given(sent=lines, stages=st.lists(filters(), max_size=3), forward=st.booleans(), limit=st.integers(1, 14))
def test_a_query_finds_the_lines_that_were_pushed_in_order(
    loki: LokiServer, sent: list[Line], stages: list[Filter], forward: bool, limit: int
) -> None:
    app, now = uuid.uuid4().hex, time.time_ns()
    # At different times: for equal ones Loki defines no order over streams.
    timed = [(now - ago * SECOND - number, line, meta, half) for number, (ago, line, meta, half) in enumerate(sent)]
    streams = [
        ({"app": app, "half": half}, [[str(at), line, meta] for at, line, meta, of in timed if of == half])
        for half in ("one", "two")
    ]
    assert loki.push(*(stream for stream in streams if stream[1])) == (204, "")
    query = " ".join([f'{{app="{app}"}}', *(text for text, _ in stages)])
    direction = "forward" if forward else "backward"
    found = loki.ask(query=query, start=now - HOUR, end=now + 1, limit=limit, direction=direction)
    expected = [
        (at, line, {"app": app, "half": half, **{name: value for name, value in meta.items() if value}})
        for at, line, meta, half in sorted(timed, key=lambda entry: entry[0], reverse=not forward)
        if all(keep(line, meta) for _, keep in stages)
    ]
    got = [(int(at), line, stream["stream"]) for stream in found for at, line in stream["values"]]
    assert sorted(got, key=lambda entry: entry[0], reverse=not forward) == expected[:limit]
    for stream in found:
        times = [int(at) for at, _ in stream["values"]]
        assert times == sorted(times, reverse=not forward)


def test_a_line_that_comes_twice_is_there_once_and_others_of_its_time_beside_it(loki: LokiServer, app: str) -> None:
    at = str(time.time_ns())
    for _ in range(2):
        values: list[list[Any]] = [[at, "x", {"run_id": "1"}], [at, "y"], [at, "x", {"run_id": "2"}]]
        assert loki.push(({"app": app}, values)) == (204, "")
    found = loki.lines(f'{{app="{app}"}}')
    assert sorted((line, labels.get("run_id", "")) for _, line, labels in found) == [("x", "1"), ("x", "2"), ("y", "")]


def test_lines_of_one_time_come_in_the_order_in_which_they_were_sent(loki: LokiServer, app: str) -> None:
    at = str(time.time_ns())
    assert loki.push(({"app": app}, [[at, text] for text in ("c", "a", "b")])) == (204, "")
    (stream,) = loki.ask(query=f'{{app="{app}"}}', direction="forward")
    assert [line for _, line in stream["values"]] == ["c", "a", "b"]


def test_the_end_of_a_time_is_not_part_of_it(loki: LokiServer, app: str) -> None:
    at = time.time_ns()
    loki.push(({"app": app}, [[str(at + offset), str(offset)] for offset in (0, 1, 2)]))
    (stream,) = loki.ask(query=f'{{app="{app}"}}', start=at, end=at + 2, direction="forward")
    assert [line for _, line in stream["values"]] == ["0", "1"]


def test_metadata_with_the_name_of_a_label_is_shown_beside_it(loki: LokiServer, app: str) -> None:
    loki.push(({"app": app, "job": "x"}, [[str(time.time_ns()), "line", {"job": "y"}]]))
    ((_, _, labels),) = loki.lines(f'{{app="{app}"}}')
    assert labels == {"app": app, "job": "x", "job_extracted": "y"}


def test_streams_are_selected_by_their_labels(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    for number in ("1", "2", "13"):
        loki.push(({"app": app, "n": number}, [[str(now), number]]))
    loki.push(({"app": app}, [[str(now), "none"]]))
    for selector, found in {
        'n="1"': ["1"],
        'n!="1"': ["13", "2", "none"],
        'n=~"1|2"': ["1", "2"],
        'n=~"1.*"': ["1", "13"],
        'n!~"1.*"': ["2", "none"],
        'n=""': ["none"],
        'n=~".+"': ["1", "13", "2"],
    }.items():
        assert sorted(line for _, line, _ in loki.lines(f'{{app="{app}", {selector}}}')) == found, selector


def test_labels_are_compared_with_or_and_with_and(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    values: list[list[Any]] = [
        [str(now + a * 2 + b), f"{a}{b}", {"a": str(a), "b": str(b)}] for a in (0, 1) for b in (0, 1)
    ]
    loki.push(({"app": app}, [*values, [str(now + 4), "line\nbreak", {"a": "line\nbreak"}]]))
    for stage, found in {
        'a="1" or b="1"': ["01", "10", "11"],
        'a="1" and b="1"': ["11"],
        'a="0" and b="0" or a="1"': ["00", "10", "11"],
        'a="1" or a="0" and b="0"': ["00", "10", "11"],
        'a=~".+"': ["00", "01", "10", "11", "line\nbreak"],
        'a!~"0|1"': ["line\nbreak"],
    }.items():
        assert [line for _, line, _ in loki.lines(f'{{app="{app}"}} | {stage}')] == found, stage


def test_a_field_of_a_line_becomes_a_label(loki: LokiServer, app: str) -> None:
    fields = [{"level": "info"}, {"level": 7}, {"level": True}, {"level": None}, {"other": "x"}, {"level": "é\n"}]
    now = time.time_ns()
    loki.push(({"app": app}, [[str(now + number), json.dumps(each)] for number, each in enumerate(fields)]))
    found = loki.lines(f'{{app="{app}"}} | json level="level"')
    assert [labels.get("level") for _, _, labels in found] == ["info", "7", "true", "", "", "é\n"]
    assert len(loki.lines(f'{{app="{app}"}} | json level="level" | level=~"info|7"')) == 2


@settings(max_examples=50)
@given(
    ago=st.lists(st.tuples(st.integers(0, 600), st.sampled_from(["info", "error", ""])), min_size=1, max_size=20),
    window=st.sampled_from([10, 60, 90]),
    step=st.sampled_from([10, 60]),
)
def test_lines_are_counted_by_label_at_each_step(
    loki: LokiServer, ago: list[tuple[int, str]], window: int, step: int
) -> None:
    app, now = uuid.uuid4().hex, int(time.time())
    written = [(now - seconds, level) for seconds, level in ago]
    values = [
        [str(at * SECOND), json.dumps({"level": level, "number": number}), {"run_id": "r"}]
        for number, (at, level) in enumerate(written)
    ]
    assert loki.push(({"app": app}, values)) == (204, "")
    query = f'sum by (level) (count_over_time({{app="{app}"}} | run_id="r" | json level="level" [{window}s]))'
    found = loki.ask(query=query, start=now - 600, end=now, step=f"{step}s")
    times = range((now - 600) // step * step, -(-now // step) * step + 1, step)
    expected = Counter((level, at) for at in times for then, level in written if at - window < then <= at)
    assert expected == {
        (series["metric"].get("level", ""), int(at)): int(count) for series in found for at, count in series["values"]
    }


def test_prometheus_finds_what_dashboards_and_alerts_ask_for(loki: LokiServer, app: str) -> None:
    now = time.time_ns()
    loki.push(({"app": app}, [[str(now), "line"], [str(now + HOUR), "too new"]]))
    _, text = loki.call("/metrics")
    assert re.search(r'^loki_distributor_lines_received_total\{.*tenant="fake".*\} \d+', text, re.MULTILINE)
    assert re.search(r'^loki_discarded_samples_total\{.*reason="too_far_in_future".*\} \d+', text, re.MULTILINE)


@loki_of_our_own
@pytest.mark.parametrize("kindly", [False, True], ids=["killed", "told to end"])
def test_what_was_taken_is_there_after_a_restart(tmp_path: Path, app: str, kindly: bool) -> None:
    with run_loki(tmp_path) as server:
        server.push(({"app": app}, [[str(time.time_ns()), "line", {"run_id": "r"}]]))
        server.stop(kindly=kindly)
        server.start()
        assert [line for _, line, _ in server.lines(f'{{app="{app}"}} | run_id="r"')] == ["line"]


@real_loki
@loki_of_our_own
def test_chunks_reach_a_bucket_and_are_read_from_it(
    tmp_path: Path, app: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    bucket = s3_url.split("/")[2]
    monkeypatch.setenv("LOKI_STORE", "s3")
    monkeypatch.setenv("LOKI_BUCKET", bucket)
    monkeypatch.setenv("LOKI_S3_ENDPOINT", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("LOKI_S3_REGION", "us-east-1")
    with run_loki(tmp_path) as server:
        server.push(({"app": app}, [[str(time.time_ns()), "line"]]))
        server.stop(kindly=True)
        names = [each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket=bucket)["Contents"]]
        assert any(name.startswith("fake/") for name in names), names
        server.start()
        assert [line for _, line, _ in server.lines(f'{{app="{app}"}}')] == ["line"]
