"""Loki can read every query of the dashboards, and every one that the documentation gives."""

import re
import time
from urllib.parse import urlencode

import pytest

from dev.sandbox.stack import ROOT
from tests.harness.logs.loki import LokiServer, real_loki
from tests.harness.metrics.queries import Query, queries

HOUR = 3600 * 10**9
_SELECTOR = r'\{[a-z]+=~?"'
_DOCUMENTED = re.compile(rf"`((?:\w+\b[^`\n]*)?{_SELECTOR}[^`\n]*)`|^({_SELECTOR}.*)$", re.MULTILINE)
DOCUMENTED = sorted(
    (page.name, quoted or line)
    for page in (ROOT / "docs").rglob("*.md")
    for quoted, line in _DOCUMENTED.findall(page.read_text())
)


@pytest.mark.parametrize("query", [query for query in queries() if query.language == "logql"], ids=str)
def test_loki_answers(loki: LokiServer, query: Query) -> None:
    now = time.time_ns()
    parameters = {"query": query.text, "start": now - HOUR, "end": now, "step": "60s", "limit": 10}
    answer = loki.answer(f"/loki/api/v1/query_range?{urlencode(parameters)}")
    assert answer["status"] == "success"
    assert answer["data"]["resultType"] == ("streams" if query.is_of_lines else "matrix")


@real_loki
@pytest.mark.parametrize(("page", "query"), DOCUMENTED)
def test_loki_answers_what_the_documentation_tells_people_to_ask(loki: LokiServer, page: str, query: str) -> None:
    now = time.time_ns()
    assert loki.answer(
        f"/loki/api/v1/query_range?{urlencode({'query': query, 'start': now - HOUR, 'end': now, 'limit': 10})}"
    ), page


def test_what_was_kept_while_loki_was_away_is_taken_and_found_in_whatever_order_it_comes(loki: LokiServer) -> None:
    now = time.time_ns()
    for hours in (0, 71, 5):  # behind the newest
        labels = {"job": "pods", "app": f"kept-{now}"}
        assert loki.push((labels, [[str(now - hours * HOUR), f"{hours} h"]])) == (204, "")
    assert [line for _, line, _ in loki.lines(f'{{app="kept-{now}"}}', minutes=72 * 60)] == ["71 h", "5 h", "0 h"]
