"""Loki can read every query of the dashboards."""

import json
import time
from collections.abc import Iterator
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from tests.support.loki import LokiServer, run_loki
from tests.support.queries import Query, queries

# Where Loki is not built yet it is first.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiServer]:
    with run_loki(tmp_path_factory.mktemp("loki")) as server:
        yield server


@pytest.mark.parametrize("query", [query for query in queries() if query.language == "logql"], ids=str)
def test_loki_answers(loki: LokiServer, query: Query) -> None:
    now = time.time_ns()
    parameters = {"query": query.text, "start": now - 3600 * 10**9, "end": now, "step": "60s"}
    with urlopen(f"{loki.url}/loki/api/v1/query_range?{urlencode(parameters)}", timeout=30) as response:
        answer = json.load(response)
    assert answer["status"] == "success"
    assert answer["data"]["resultType"] == ("streams" if query.is_of_lines else "matrix")


def test_what_was_kept_while_loki_was_away_is_taken_and_found_in_whatever_order_it_comes(loki: LokiServer) -> None:
    now = time.time_ns()
    for hours in (0, 11, 5):  # behind the newest
        stream = {"stream": {"job": "pods", "app": "kept"}, "values": [[str(now - hours * 3600 * 10**9), f"{hours} h"]]}
        data, kind = json.dumps({"streams": [stream]}).encode(), {"Content-Type": "application/json"}
        with urlopen(Request(f"{loki.url}/loki/api/v1/push", data, kind), timeout=30):
            pass
    assert [line for _, line, _ in loki.lines('{app="kept"}', minutes=720)] == ["11 h", "5 h", "0 h"]
