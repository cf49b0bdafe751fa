"""`doctor.sh` finds nothing where all is well, separates causes from effects, and says what to do."""

import json
import re
from pathlib import Path

import pytest

from ops.cluster.log_lines import last_message
from ops.doctor.checks import CHECKS
from ops.doctor.cli import NOT_SEEN, WELL, WRONG, exit_code
from ops.doctor.findings import Check, Finding, evaluate
from ops.doctor.report import as_json, as_text
from ops.doctor.snapshot import Snapshot
from tests.harness.doctor.healthy_deployment import alert, well
from tests.harness.doctor.verdict import only, pod_of, set_state, unready, verdict

ROOT = Path(__file__).resolve().parents[2]


def finding(where: str, *explained_by: str, affects: "tuple[str, ...]" = ()) -> Finding:
    return Finding(where, "what", "do", frozenset(affects), frozenset(explained_by))


def judged(*findings: Finding) -> "list[tuple[str, list[str]]]":
    """Each cause with what follows from it."""
    made = evaluate([Check("check", "area", lambda _: findings)], well())
    return [
        (cause.where, [one.where for _, one in follows])
        for (_, cause), follows in zip(made.causes, made.follows, strict=True)
    ]


def test_nothing_is_found_where_all_is_well(seen: Snapshot) -> None:
    made = verdict(seen)
    assert made.causes == []
    assert exit_code(made) == WELL
    assert as_text(made).endswith("All is well.")


def test_every_area_is_told_in_order_and_none_twice(seen: Snapshot) -> None:
    rows = as_text(verdict(seen)).partition("\n\n")[0].splitlines()[1:]
    areas = list(dict.fromkeys(check.area for check in CHECKS))
    assert [re.split(r"  +", row) for row in rows] == [[area, "ok"] for area in areas]


def test_what_follows_from_something_is_told_with_it() -> None:
    assert judged(finding("service", "pod"), finding("pod", "node"), finding("node")) == [("node", ["pod", "service"])]


def test_what_has_nothing_to_do_with_each_other_is_told_apart() -> None:
    assert judged(finding("a", "x"), finding("b", "y")) == [("a", []), ("b", [])]


def test_a_finding_may_tell_of_more_than_where_it_is() -> None:
    assert judged(finding("pod", affects=("deployment",)), finding("service", "deployment")) == [("pod", ["service"])]


def test_what_explains_each_other_in_a_ring_is_not_lost() -> None:
    assert judged(finding("a", "b"), finding("b", "a")) == [("a", ["b"])]


def test_an_alert_that_says_the_same_as_a_finding_follows_from_it(seen: Snapshot) -> None:
    seen.airflow.health["scheduler"] = {"status": "unhealthy", "latest_scheduler_heartbeat": None}
    seen.alerts.append(alert("SchedulerSilent"))
    only(seen, "scheduler-silent", follows={"alert-firing"})


def test_the_report_says_what_where_and_what_to_do(seen: Snapshot) -> None:
    seen.airflow.pools[0]["slots"] = 0
    text = as_text(verdict(seen))
    assert "Airflow            wrong: 1" in text
    assert "1. pool-without-slots: pool default_pool" in text
    assert re.search(r"^   What: .*0 slots", text, re.MULTILINE)
    assert re.search(r"^   Do:   Give it some", text, re.MULTILINE)
    assert text.endswith("1 thing is wrong.")


def test_the_report_names_what_follows_and_the_runbook(seen: Snapshot) -> None:
    set_state(pod_of(seen, "loki"), {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}})
    unready(seen, "loki")
    text = as_text(verdict(seen))
    assert "docs/runbooks/ImagePullFailing.md" in text
    assert "From this follows: service-without-endpoints (service observability/loki)" in " ".join(text.split())
    assert "services           follows from 1" in text


def test_the_same_is_there_for_programs(seen: Snapshot) -> None:
    seen.airflow.pools[0]["slots"] = 0
    told = json.loads(as_json(verdict(seen)))
    assert [one["name"] for one in told["wrong"]] == ["pool-without-slots"]
    assert told["not_seen"] == []


def test_what_could_not_be_seen_is_not_called_well(seen: Snapshot) -> None:
    seen.unseen["staging"] = "the pod told nothing."
    made = verdict(seen)
    assert "staging            not seen: the pod told nothing." in as_text(made)
    assert exit_code(made) == NOT_SEEN


def test_something_wrong_ends_in_1(seen: Snapshot) -> None:
    seen.airflow.pools[0]["slots"] = 0
    seen.unseen["staging"] = "the pod told nothing."
    assert exit_code(verdict(seen)) == WRONG


def test_every_runbook_that_is_named_is_there() -> None:
    for check in CHECKS:
        assert not check.runbook or (ROOT / "docs" / "runbooks" / f"{check.runbook}.md").is_file()


def test_every_cause_that_can_be_named_is_in_the_documentation() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("## When something is wrong")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", section)) == {check.name for check in CHECKS}


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("first\nlast\n\n", "last"),
        ('{"event": "began", "level": "info"}\n{"event": "the disk is full", "level": "error"}', "the disk is full"),
        (
            '{"event": "the disk is full", "level": "error"}\n{"event": "Task exited", "level": "info"}',
            "the disk is full",
        ),
        ("\x1b[31mred\x1b[0m", "red"),
        (
            '{"event": "Task failed with exception", "level": "error",'
            ' "error_detail": [{"exc_type": "AirflowFailException", "exc_value": "it does not add up"}]}',
            "Task failed with exception: it does not add up",
        ),
        ("Traceback (most recent call last):\n  File …\nValueError: no such table", "ValueError: no such table"),
        ("", ""),
    ],
)
def test_the_last_words_of_a_log_are_those_of_the_error(log: str, words: str) -> None:
    assert last_message(log) == words
