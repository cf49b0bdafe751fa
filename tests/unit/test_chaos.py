"""A campaign of faults: what comes follows from the seed, what is done is healed, and what is wrong ends it."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import campaign
from tests.chaos.campaign import Campaign
from tests.chaos.schedule import Drawn, draw
from tests.faults import Fault, all_faults
from tests.faults.system import SystemUnderTest
from tests.harness.e2e.live_pods import Pod, Pods, read_pod

NAMES = sorted(all_faults())
SCENE: Any = None
NOT_YET = 1e9
SEED = 1
"""By this, of two faults the first one comes first."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for its own sake."""
    monkeypatch.setattr(campaign, "_GAP", 0.0)
    monkeypatch.setattr(campaign, "PATIENCE", 0.2)
    monkeypatch.setattr(campaign, "draw", lambda seed, names: (soon_of(drawn) for drawn in draw(seed, names)))


def soon_of(drawn: Drawn) -> Drawn:
    return Drawn(drawn.number, drawn.fault, delay=0, lasts=1, target=drawn.target)


class Hits(Fault):
    """A fault that says what is done with it."""

    def __init__(self, name: str, told: list[str], targets: Sequence[str] = ("it",), longest: float = 0) -> None:
        super().__init__(name)
        self.longest = longest
        self._told, self._targets = told, targets

    def targets(self, system: SystemUnderTest) -> Sequence[str]:
        return self._targets

    def inject(self, system: SystemUnderTest, target: str) -> None:
        if target == "gone":
            raise OSError("it has ended before")
        self._told.append(f"{self.name} hits {target}")

    def heal(self, system: SystemUnderTest) -> None:
        self._told.append(f"{self.name} is healed")


def make(log: Path, faults: Iterable[Fault], check: Any = lambda: None) -> Campaign:
    return Campaign(SCENE, {fault.name: fault for fault in faults}, lambda: None, check, log)


def test_the_same_seed_gives_the_same_faults() -> None:
    first, second, other = (list(islice(draw(seed, NAMES), 200)) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_every_kind_comes_as_often_as_the_others() -> None:
    counts = Counter(drawn.fault for drawn in islice(draw(7, NAMES), 3 * len(NAMES)))
    assert set(counts.values()) == {3}
    assert counts.keys() == set(NAMES)


@pytest.mark.parametrize(
    "fault",
    [
        *(f"{verb} {role}" for verb in ("delete", "kill") for role in ("extract", "filter", "load", "worker")),
        *(f"kill airflow-{server}" for server in ("scheduler", "api-server", "dag-processor", "triggerer")),
        *("kill metadata-postgres", "kill mssql", "kill source", "kill kubelet", "pause kubelet", "delete kube-dns"),
        *("cut source", "cut sink", "thin out source", "refuse sink", "cut DNS", "fill staging"),
        *("sink: stand still in mid-bulk-load", "sink: stand still in mid-transaction", "pause mssql"),
        *("evict worker", "evict load", "out of memory: load", "out of memory: worker"),
    ],
)
def test_what_really_happens_is_among_them(fault: str) -> None:
    assert fault in NAMES


def test_so_many_are_done_and_written_down(tmp_path: Path) -> None:
    told: list[str] = []
    injected = make(tmp_path / "log", [Hits("a", told), Hits("b", told, ["gone"]), Hits("c", told, [])]).run(7, 4)
    assert told == ["a hits it"] * 4
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["fault"] for line in lines] == [fault.fault for fault in injected] == ["a"] * 4


def test_what_was_done_is_healed_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(campaign, "_GAP", 0.3)
    make(tmp_path / "log", [Hits("lasting", told, longest=0.1), Hits("other", told)]).run(SEED, 2)
    assert told == ["lasting hits it", "lasting is healed", "other hits it"]


def test_a_fault_is_healed_before_the_next_one_at_the_same_place(tmp_path: Path) -> None:
    told: list[str] = []
    make(tmp_path / "log", [Hits("lasting", told, longest=NOT_YET)]).run(7, 3)
    assert told == ["lasting hits it", "lasting is healed"] * 3


def test_what_is_wrong_ends_the_campaign_and_all_is_healed(tmp_path: Path) -> None:
    told: list[str] = []

    def check() -> None:
        if told:
            raise AssertionError("a row is lost")

    with pytest.raises(AssertionError, match="a row is lost"):
        make(tmp_path / "log", [Hits("lasting", told, longest=NOT_YET)], check).run(7, 3)
    assert told == ["lasting hits it", "lasting is healed"]


def a_pod(labels: dict[str, str], **more: Any) -> dict[str, Any]:
    status = {"name": "base", "containerID": "containerd://abc", "state": {"running": {}}, "ready": True}
    return {
        "metadata": {"name": "pod", "namespace": "etl-poc", "labels": labels, **more},
        "status": {"phase": "Running", "containerStatuses": [{**status, "restartCount": 0}]},
    }


def test_a_pod_is_known_by_what_it_is_for() -> None:
    step = read_pod(
        a_pod(
            {
                "kubernetes_pod_operator": "True",
                "app.kubernetes.io/name": "etl",
                "app.kubernetes.io/component": "load",
                "dag_id": "d",
            },
            annotations={"run_id": "r:1"},
        )
    )
    worker = read_pod(
        a_pod(
            {"kubernetes_executor": "True", "app.kubernetes.io/name": "airflow-worker"},
            annotations={"dag_id": "d", "run_id": "r:1", "task_id": "plan"},
        )
    )
    server = read_pod(a_pod({"app.kubernetes.io/name": "mssql"}))
    assert [(pod.role, pod.of_a_run, pod.run_id) for pod in (step, worker, server)] == [
        ("load", True, "r:1"),
        ("worker", True, "r:1"),
        ("mssql", False, ""),
    ]
    assert step.container == "abc"


def test_a_pod_that_ends_is_no_target_and_one_that_is_gone_is_forgotten() -> None:
    pods = Pods()
    pods.begin("etl-poc")
    labels = {"app.kubernetes.io/name": "mssql"}
    pods.take({"type": "ADDED", "object": a_pod(labels)})
    assert [pod.name for pod in pods.of("mssql")] == ["pod"]
    pods.take({"type": "MODIFIED", "object": a_pod(labels, deletionTimestamp="now")})
    assert pods.of("mssql") == []
    assert [isinstance(pod, Pod) for pod in pods.all()] == [True]
    pods.take({"type": "DELETED", "object": a_pod(labels)})
    assert pods.all() == []
