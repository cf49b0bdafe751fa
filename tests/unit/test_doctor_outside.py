"""Findings of `doctor.sh` from outside the pods: policies, ingress, certificates. One fault each."""

from datetime import timedelta

import pytest

from ops.cluster.pages import PageProblem
from ops.doctor.snapshot import USER, Snapshot
from tests.harness.doctor.healthy_deployment import NOW
from tests.harness.doctor.verdict import get, only, remove, unready, verdict


def test_policies_that_could_not_be_tried_are_not_said_to_hold(seen: Snapshot) -> None:
    seen.policies, seen.unseen["policies"] = [], "whether network policies are enforced could not be tested: no image."
    judged = verdict(seen)
    assert judged.causes == []
    assert judged.unseen


def test_a_page_that_does_not_open(seen: Snapshot) -> None:
    seen.pages = [PageProblem("https://one/", "Nobody answers at 203.0.113.5, port 443.", "Look at Traefik.")]
    only(seen, "page-not-shown", "https://one/", "Nobody answers", "Look at Traefik.")


def test_a_page_without_a_server_behind_follows_from_that(seen: Snapshot) -> None:
    seen.pages = [PageProblem("https://one/", "502.", "Look.", ("service etl-poc/airflow-api-server",))]
    unready(seen, "airflow-api-server")
    only(seen, "service-without-endpoints", follows={"page-not-shown"})


def test_people_who_have_one_address(seen: Snapshot) -> None:
    get(seen, "Service", "traefik")["spec"]["externalTrafficPolicy"] = "Cluster"
    only(seen, "addresses-hidden", "fifty failed logins of one lock out", "externalTrafficPolicy: Local")


def test_a_traefik_that_is_not_there_hides_nothing(seen: Snapshot) -> None:
    remove(seen, "Service", "traefik")
    assert verdict(seen).causes == []


@pytest.mark.parametrize(
    ("whose", "days", "words"),
    [
        ("Secret ui-tls", 13, ("ends on 2026-03-14 12:00 UTC, in 13 days", "create secret tls ui-tls")),
        ("Secret mssql-tls", -1, ("ended on 2026-02-28 12:00 UTC", "apply-all.sh")),
        (USER, 29, ("in 29 days", "`systemctl restart k3s`", "within 120 days", "made anew")),
    ],
)
def test_a_certificate_that_runs_out(seen: Snapshot, whose: str, days: int, words: tuple[str, ...]) -> None:
    seen.certificates[whose] = NOW + timedelta(days=days)
    only(seen, "certificate-expiring", *words)
    seen.certificates[whose] = NOW + timedelta(days=31)
    assert verdict(seen).causes == []
