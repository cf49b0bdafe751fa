"""An unavailable database is distinguished from a wrong password: SQL Server says Login failed for both."""

import os
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, TryAgainError
from etl.sqlserver.state import read
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture
from tests.harness.etl_check import problem
from tests.harness.runs import Runs

needs_stand_in = pytest.mark.skipif("SINK_URL" in os.environ, reason="a real server is not recovering on demand")


def in_master(made: PipelineFixture) -> PipelineFixture:
    url = urlsplit(made.sink_url)._replace(path="/master").geturl()
    return PipelineFixture(
        made.pipeline, made.settings.model_copy(update={"sink_url": SecretStr(url)}), made.source_url, url
    )


@pytest.fixture
def ready(orders: PipelineFixture) -> PipelineFixture:
    orders.run("before")
    return orders


@pytest.fixture
def recovering(ready: PipelineFixture) -> Iterator[PipelineFixture]:
    """A sink whose database is being recovered after a restart of its server."""
    ready.execute("EXEC standin_inject @fault = N'recovering'")
    yield ready
    in_master(ready).execute("EXEC standin_clear_faults")


@needs_stand_in
def test_a_database_that_is_recovered_is_tried_again(
    recovering: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "The database sink is RECOVERING: it opens when that is done."
    recovering.run("run", None, "extract", "filter")
    with pytest.raises(TryAgainError, match=told):
        recovering.run("run", None, "load")
    with pytest.raises(AirflowException, match=told) as caught:
        Runs(recovering, monkeypatch).plan()
    assert not isinstance(caught.value, AirflowFailException)
    assert problem(recovering, "sink") == (75, "recovering", told)
    in_master(recovering).execute("EXEC standin_clear_faults")
    assert recovering.run("run", None, "load")["load"].unchanged == 1600


def test_a_database_that_is_not_there_is_not_tried_again(
    ready: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = urlsplit(ready.sink_url)._replace(path="/nowhere").geturl()
    told = "There is no database nowhere that the login could see: run `etl prepare-sink`."
    ready.run("run", None, "extract", "filter")
    elsewhere = PipelineFixture(
        ready.pipeline, ready.settings.model_copy(update={"sink_url": SecretStr(url)}), ready.source_url, url
    )
    with pytest.raises(ConfigurationError, match=told):
        elsewhere.run("run", None, "load")
    with pytest.raises(AirflowFailException, match=told):
        Runs(elsewhere, monkeypatch).plan()
    assert problem(ready, "sink", SINK_URL=url) == (78, "database", told)


def test_a_wrong_password_is_not_tried_again(ready: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = urlsplit(ready.sink_url)
    url = parts._replace(netloc=f"{parts.username}:wrong-and-secret@{parts.hostname}:{parts.port}").geturl()
    wrong = PipelineFixture(ready.pipeline, ready.settings, ready.source_url, url)
    with pytest.raises(AirflowFailException, match=r"does not let the login \w+ in") as caught:
        Runs(wrong, monkeypatch).plan()
    assert "wrong-and-secret" not in str(caught.value)
    assert problem(ready, "sink", SINK_PASSWORD="wrong-and-secret")[:2] == (78, "login")


@pytest.mark.parametrize(
    ("found", "problem", "told"),
    [
        (None, "database", "There is no database sink"),
        (("ONLINE", "MULTI_USER", None, 0), "database", "The login may not enter the database sink"),
        (("ONLINE", "MULTI_USER", None, 1), "recovering", "did not open a moment ago"),
        (("ONLINE", "SINGLE_USER", None, 0), "recovering", r"in use by an administrator \(SINGLE_USER\)"),
        (("RECOVERY_PENDING", "MULTI_USER", None, 0), "recovering", "is RECOVERY_PENDING: it opens"),
        (("ONLINE", "MULTI_USER", "a replica", 0), "recovering", "in an availability group"),
        (("SUSPECT", "MULTI_USER", None, 0), "recovering", "is SUSPECT: have an administrator look at it"),
    ],
)
def test_what_master_says_of_a_database_decides(found: tuple[object, ...] | None, problem: str, told: str) -> None:
    state = read("sink", found)
    assert (state.problem, state.may_pass) == (problem, problem == "recovering")
    assert re.search(told, state.words)
