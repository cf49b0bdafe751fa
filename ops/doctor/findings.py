"""What is wrong, where, what to do; and which of it only follows from something else that is wrong."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ops.doctor.snapshot import Snapshot


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    where: str
    """What is not well, as people and other findings name it: `pod etl-poc/mssql-0`, `source`."""
    what: str
    do: str
    tells: frozenset[str] = frozenset()
    """What else is not well by this, named in the same way."""
    because: frozenset[str] = frozenset()
    """What this rests on: where one of them is not well, that explains this."""


@dataclass(frozen=True)
class Check:
    """One question to a snapshot. `name` is that of what it finds; `area` is what it asks about."""

    name: str
    area: str
    find: Callable[[Snapshot], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    """The parts of the snapshot without which it cannot say that all is well."""
    runbook: str = ""
    """The page in docs/runbooks, named after the alert that tells of the same."""


@dataclass
class Result:
    """What came of a check: its findings, and what it could not see."""

    check: Check
    findings: list[Finding]
    unseen: str = ""


@dataclass
class Verdict:
    """All results in order; the findings that nothing explains, and what follows from each of them."""

    results: list[Result]
    causes: list[tuple[Check, Finding]] = field(default_factory=list)
    follows: list[list[tuple[Check, Finding]]] = field(default_factory=list)

    @property
    def unseen(self) -> bool:
        """Whether something could not be looked at."""
        return any(result.unseen for result in self.results)

    def number_of(self, finding: Finding) -> int:
        """The number of the cause that a finding is, or follows from."""
        for number, (_, cause) in enumerate(self.causes):
            if finding is cause or any(finding is one for _, one in self.follows[number]):
                return number + 1
        return 0


def judge(checks: Sequence[Check], snapshot: Snapshot) -> Verdict:
    """Ask everything, and tell causes from what only follows."""
    results = []
    for check in checks:
        reasons = [snapshot.unseen[part] for part in check.needs if part in snapshot.unseen]
        findings = list(check.find(snapshot))
        results.append(Result(check, findings, "" if findings else next(iter(reasons), "")))
    found = [(result.check, finding) for result in results for finding in result.findings]
    verdict = Verdict(results)
    told: list[Finding] = []
    roots = [pair for pair in found if not any(_explains(other, pair) for other in found)]
    # What explains each other in a ring would else be told by nobody.
    for pair in [*roots, *found]:
        if not any(pair[1] is one for one in told):
            following = _following(pair, found, told)
            verdict.causes.append(pair)
            verdict.follows.append(following)
            told += [pair[1], *(finding for _, finding in following)]
    return verdict


def _following(
    cause: tuple[Check, Finding], found: list[tuple[Check, Finding]], told: list[Finding]
) -> list[tuple[Check, Finding]]:
    """What follows from a cause, also by way of others, and was not told before."""
    reached = [cause]
    for link in reached:
        for pair in found:
            known = any(pair[1] is one for one in told) or any(pair is one for one in reached)
            if not known and _explains(link, pair):
                reached.append(pair)
    return reached[1:]


def _explains(one: tuple[Check, Finding], other: tuple[Check, Finding]) -> bool:
    check, finding = one
    subjects = {finding.where, f"alert {check.runbook}"} | finding.tells
    return finding is not other[1] and not subjects.isdisjoint(other[1].because)
