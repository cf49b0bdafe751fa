"""What stands around Airflow's API server: plain HTTP from outside leads to HTTPS, and passwords cannot be guessed."""

import asyncio
from typing import Any

import pytest
from etl_front_door import MOST_FAILURES, WINDOW_SECONDS, FrontDoor

OUTSIDE = {"x-forwarded-proto": "https"}


class Door:
    """The door with an Airflow behind it that answers as it is told, and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.passed = 0
        self._door = FrontDoor(self._airflow, clock=lambda: self.now)

    async def _airflow(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed += 1
        status, headers = self.answer
        if not status:
            raise OSError("no database")
        found = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": found})
        await send({"type": "http.response.body", "body": b""})

    def ask(
        self, path: str = "/", method: str = "GET", address: str = "198.51.100.1", **headers: str
    ) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "client": (address, 40000),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        asyncio.run(self._door(scope, receive, send))
        return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}

    def log_in(self, path: str = "/auth/token", address: str = "198.51.100.1") -> int:
        """The status of a login."""
        return self.ask(path, "POST", address)[0]


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize(
    ("host", "path", "location"),
    [
        ("etl.example.com", "/dags?state=failed&x=%20", "https://etl.example.com/dags?state=failed&x=%20"),
        ("etl.example.com:80", "/", "https://etl.example.com/"),
        ("[2001:db8::1]:80", "/grafana/d/overview", "https://[2001:db8::1]/grafana/d/overview"),
    ],
)
def test_plain_http_from_outside_is_sent_to_https(door: Door, host: str, path: str, location: str) -> None:
    status, headers = door.ask(path, host=host, x_forwarded_proto="http")
    assert (status, headers["location"]) == (308, location)
    assert door.passed == 0


def test_https_stays_https(door: Door) -> None:
    status, headers = door.ask(x_forwarded_proto="https")
    assert (status, headers["strict-transport-security"]) == (200, "max-age=31536000")


def test_what_comes_from_within_the_cluster_is_left_as_it_is(door: Door) -> None:
    assert door.ask("/execution/health") == (200, {})


@pytest.mark.parametrize("path", ["/auth/token", "/auth/token/", "/auth/token/cli", "/auth/login/", "/auth/login"])
def test_failed_logins_are_bounded(door: Door, path: str) -> None:
    door.answer = (302 if "login" in path else 401, {"location": "/auth/login/"})
    assert {door.log_in(path) for _ in range(MOST_FAILURES)} == {door.answer[0]}
    status, headers = door.ask(path, "POST")
    assert (status, int(headers["retry-after"])) == (429, WINDOW_SECONDS + 1)
    assert door.passed == MOST_FAILURES


@pytest.mark.parametrize("answer", [(201, {}), (302, {"set-cookie": "_token=a; Path=/; HttpOnly"}), (503, {})])
def test_those_that_are_not_refused_are_not_counted(door: Door, answer: tuple[int, dict[str, str]]) -> None:
    door.answer = answer
    assert {door.log_in() for _ in range(3 * MOST_FAILURES)} == {answer[0]}


def test_a_server_in_trouble_keeps_nobody_out(door: Door) -> None:
    """As while its database is away: what goes wrong behind the door passes through it."""
    door.answer = (0, {})
    for _ in range(3 * MOST_FAILURES):
        with pytest.raises(OSError, match="no database"):
            door.log_in()
    door.answer = (201, {})
    assert door.log_in() == 201


def test_after_the_window_there_is_another_chance(door: Door) -> None:
    door.answer = (401, {})
    for _ in range(MOST_FAILURES):
        door.log_in()
    door.now += WINDOW_SECONDS - 1
    assert door.log_in() == 429
    door.now += 2
    assert door.log_in() == 401


def test_others_are_not_kept_out(door: Door) -> None:
    door.answer = (401, {})
    for _ in range(MOST_FAILURES + 1):
        door.log_in()
    assert door.log_in(address="198.51.100.2") == 401
    assert door.ask("/auth/token", "GET")[0] == 401


def test_many_at_once_are_no_more_than_many_in_turn() -> None:
    begun = 0
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await release.wait()
        await send({"type": "http.response.start", "status": 401, "headers": []})

    async def run() -> None:
        door = FrontDoor(slow)
        scope = {"type": "http", "method": "POST", "path": "/auth/token", "client": ("198.51.100.1", 1), "headers": []}

        async def nothing(_message: Any = None) -> Any:
            return None

        logins = [asyncio.create_task(door(dict(scope), nothing, nothing)) for _ in range(5 * MOST_FAILURES)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*logins)

    asyncio.run(run())
    assert begun == MOST_FAILURES
