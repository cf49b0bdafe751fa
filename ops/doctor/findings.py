"""Findings of the checks: causes, and what only follows from them."""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from ops.doctor.snapshot import Snapshot


@dataclass(frozen=True)
class Finding:
    """One problem."""

    where: str
    """The faulty object, named as in other findings: `pod etl-poc/mssql-0`, `source`."""
    what: str
    do: str
    affects: Set[str] = frozenset()
    """Other objects that are faulty by it, named in the same way."""
    explained_by: Set[str] = frozenset()
    """Objects that it depends on: a finding about one of them explains this one."""


@dataclass(frozen=True)
class Check:
    """One check of a snapshot. `name` is that of its findings; `area` is a row of the report."""

    name: str
    area: str
    find: Callable[[Snapshot], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    """The parts of the snapshot that it needs to say that all is well."""
    runbook: str = ""
    """The page in docs/runbooks, named after the alert of the same problem."""


@dataclass
class Result:
    """The result of a check: its findings, or why it could not look."""

    check: Check
    findings: list[Finding]
    unseen: str = ""


@dataclass
class Verdict:
    """All results in order; the findings that no other explains, and those that follow from each."""

    results: list[Result]
    causes: list[tuple[Check, Finding]] = field(default_factory=list)
    follows: list[list[tuple[Check, Finding]]] = field(default_factory=list)

    @property
    def unseen(self) -> bool:
        """Whether something could not be checked."""
        return any(result.unseen for result in self.results)

    def number_of(self, finding: Finding) -> int:
        """The number of the cause of a finding, which may be the finding itself."""
        for number, (_, cause) in enumerate(self.causes):
            if finding is cause or any(finding is one for _, one in self.follows[number]):
                return number + 1
        return 0


def evaluate(checks: Sequence[Check], snapshot: Snapshot) -> Verdict:
    """Run all checks, and separate causes from what follows from them."""
    results = []
    for check in checks:
        reasons = [snapshot.unseen[part] for part in check.needs if part in snapshot.unseen]
        findings = list(check.find(snapshot))
        results.append(Result(check, findings, "" if findings else next(iter(reasons), "")))
    found = [(result.check, finding) for result in results for finding in result.findings]
    verdict = Verdict(results)
    reported: list[Finding] = []
    roots = [pair for pair in found if not any(_explains(other, pair) for other in found)]
    # Findings that explain each other in a circle have no root.
    for pair in [*roots, *found]:
        if not any(pair[1] is one for one in reported):
            following = _following(pair, found, reported)
            verdict.causes.append(pair)
            verdict.follows.append(following)
            reported += [pair[1], *(finding for _, finding in following)]
    return verdict


def _following(
    cause: tuple[Check, Finding], found: list[tuple[Check, Finding]], reported: list[Finding]
) -> list[tuple[Check, Finding]]:
    """Findings that follow from a cause, directly or not, and are not reported yet."""
    reached = [cause]
    for link in reached:
        for pair in found:
            known = any(pair[1] is one for one in reported) or any(pair is one for one in reached)
            if not known and _explains(link, pair):
                reached.append(pair)
    return reached[1:]


def _explains(one: tuple[Check, Finding], other: tuple[Check, Finding]) -> bool:
    check, finding = one
    subjects = {finding.where, f"alert {check.runbook}"} | finding.affects
    return finding is not other[1] and not subjects.isdisjoint(other[1].explained_by)
