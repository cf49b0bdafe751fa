"""Loki can read every query of the dashboards."""

import json
import time
from collections.abc import Iterator
from urllib.parse import urlencode
from urllib.request import urlopen

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
