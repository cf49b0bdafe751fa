"""The connection log of the tests' cluster, from packets that its nodes record."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster.traffic.connections import Connection, ConnectionLog, Pod, pods_by_address, read_connections
from tests.cluster.traffic.packet_log import Packet

TO_DATA = Packet("10.42.0.2", "10.42.0.3", "TCP 1433")


class Clock:
    """The time, as a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def pods() -> dict[str, Pod]:
    found = [
        pod("web", "10.42.0.2"),
        pod("data", "10.42.0.3"),
        pod("web", "10.42.0.4", namespace="there"),
        pod("ended", "10.42.0.5", phase="Succeeded"),
        pod("of-the-node", "10.99.0.2", hostNetwork=True),
    ]
    return pods_by_address(found)


@pytest.fixture
def log(tmp_path: Path, pods: dict[str, Pod], clock: Clock) -> ConnectionLog:
    """One that has known the pods for some time."""
    made = ConnectionLog(tmp_path / "connections")
    made.know(pods)
    clock.now += 60
    return made


def pod(name: str, address: str, namespace: str = "here", phase: str = "Running", **spec: Any) -> dict[str, Any]:
    metadata = {"name": f"{name}-0", "namespace": namespace, "labels": {"app.kubernetes.io/name": name}}
    return {"metadata": metadata, "spec": spec, "status": {"podIP": address, "phase": phase}}


def written(log: ConnectionLog, clock: Clock, folder: Path) -> list[Connection]:
    """The lines written a minute later."""
    clock.now += 60
    log.write()
    return read_connections(folder / "connections")


def test_a_pod_that_ended_or_has_the_address_of_the_node_is_none(pods: dict[str, Pod]) -> None:
    assert set(pods) == {"10.42.0.2", "10.42.0.3", "10.42.0.4"}


def test_a_connection_is_written_once_and_a_refusal_always(log: ConnectionLog, clock: Clock, tmp_path: Path) -> None:
    for refused in (False, False, True, True):
        log.note(TO_DATA, refused=refused)
    log.note(Packet("10.42.0.2", "192.0.2.7", "TCP 5432"), refused=False)
    told = Connection("web", "data", "TCP 1433", refused=False, settled=True, pods=("here/web-0", "here/data-0"))
    denied = Connection("web", "data", "TCP 1433", refused=True, settled=True, pods=("here/web-0", "here/data-0"))
    outside = Connection("web", "192.0.2.7", "TCP 5432", refused=False, settled=True, pods=("here/web-0", ""))
    assert written(log, clock, tmp_path) == [told, denied, denied, outside]


def test_a_pod_is_named_when_it_is_known_and_nothing_is_held_against_it_before(
    tmp_path: Path, pods: dict[str, Pod], clock: Clock
) -> None:
    log = ConnectionLog(tmp_path / "connections")
    log.know({"10.42.0.3": pods["10.42.0.3"]})
    clock.now += 60
    log.note(TO_DATA, refused=True)
    clock.now += 5
    log.write()
    assert read_connections(tmp_path / "connections") == []
    log.know(pods)
    (told,) = written(log, clock, tmp_path)
    assert (told.source, told.settled) == ("web", False)


def test_nothing_is_held_against_a_pod_in_its_first_seconds(log: ConnectionLog, clock: Clock, tmp_path: Path) -> None:
    log.know({"10.42.0.2": Pod("here/web-1", "web"), "10.42.0.3": Pod("here/data-0", "data")})
    log.note(TO_DATA, refused=True)
    clock.now += 5
    log.note(TO_DATA, refused=True)
    assert [one.settled for one in written(log, clock, tmp_path)] == [False, True]


def test_nothing_is_held_against_a_pod_that_was_gone_a_moment_later(
    log: ConnectionLog, pods: dict[str, Pod], clock: Clock, tmp_path: Path
) -> None:
    log.note(TO_DATA, refused=True)
    log.note(Packet("10.42.0.2", "10.42.0.4", "TCP 1433"), refused=True)
    clock.now += 1
    log.know({address: pod for address, pod in pods.items() if pod.app != "data"})
    told, other = written(log, clock, tmp_path)
    assert (told.target, told.settled, other.settled) == ("data", False, True)


def test_an_address_that_stays_unknown_is_written_as_it_is(log: ConnectionLog, clock: Clock, tmp_path: Path) -> None:
    log.note(Packet("10.42.0.3", "10.42.0.9", "TCP 1433"), refused=True)
    (told,) = written(log, clock, tmp_path)
    assert (told.source, told.target, told.settled) == ("data", "10.42.0.9", False)
