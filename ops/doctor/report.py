"""The report: the state of each area, then each cause with problem, object and advice."""

import json
import textwrap
from collections.abc import Iterator

from ops.cluster.console import table
from ops.doctor.findings import Check, Finding, Result, Verdict

_WIDTH = 110
_MOST_FOLLOWING = 5


def as_text(verdict: Verdict) -> str:
    """The report as text."""
    rows = [("AREA", "STATE"), *_areas(verdict)]
    parts = [table(rows)]
    for number, (check, finding) in enumerate(verdict.causes):
        parts.append(_cause(number + 1, check, finding, verdict.follows[number]))
    return "\n\n".join([*parts, _conclusion(verdict)])


def as_json(verdict: Verdict) -> str:
    """The report as JSON."""
    causes = [
        {**_as_dict(check, finding), "follows": [_as_dict(*pair) for pair in follows]}
        for (check, finding), follows in zip(verdict.causes, verdict.follows, strict=True)
    ]
    unseen = sorted({result.unseen for result in verdict.results if result.unseen})
    return json.dumps({"wrong": causes, "not_seen": unseen}, indent=2, ensure_ascii=False)


def _areas(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for area in dict.fromkeys(result.check.area for result in verdict.results):
        yield area, _state(verdict, [result for result in verdict.results if result.check.area == area])


def _state(verdict: Verdict, results: list[Result]) -> str:
    found = [finding for result in results for finding in result.findings]
    causes = [finding for _, finding in verdict.causes]
    own = sorted({verdict.number_of(one) for one in found if any(one is cause for cause in causes)})
    others = sorted({verdict.number_of(one) for one in found} - set(own))
    states = [f"wrong: {_numbers(own)}"] if own else []
    states += [f"follows from {_numbers(others)}"] if others else []
    unseen = next((result.unseen for result in results if result.unseen), "")
    if unseen and not states:
        states.append(f"not seen: {textwrap.shorten(unseen, 90, placeholder=' …')}")
    return "; ".join(states) or "ok"


def _cause(number: int, check: Check, finding: Finding, follows: list[tuple[Check, Finding]]) -> str:
    lines = [f"{number}. {check.name}: {finding.where}", *_paragraph("What", finding.what)]
    lines += _paragraph("Do", finding.do)
    if check.runbook:
        lines += _paragraph("More", f"docs/runbooks/{check.runbook}.md")
    if follows:
        names = [f"{other.name} ({one.where})" for other, one in follows[:_MOST_FOLLOWING]]
        names += [f"{len(follows) - _MOST_FOLLOWING} more"] if follows[_MOST_FOLLOWING:] else []
        lines += _paragraph("Also", f"From this follows: {', '.join(names)}.")
    return "\n".join(lines)


def _paragraph(head: str, text: str) -> list[str]:
    # Commands get copied, so words are not broken.
    options = {"width": _WIDTH, "break_long_words": False, "break_on_hyphens": False}
    first, *rest = textwrap.wrap(text, **options) or [""]  # type: ignore[arg-type]
    return [f"   {head + ':':<6}{first}", *(f"         {line}" for line in rest)]


def _conclusion(verdict: Verdict) -> str:
    count = len(verdict.causes)
    if count:
        return f"{count} thing{'s are' if count > 1 else ' is'} wrong."
    if verdict.unseen:
        return "Nothing was found that is wrong, but not everything could be looked at."
    return "All is well."


def _as_dict(check: Check, finding: Finding) -> dict[str, str]:
    return {
        "name": check.name,
        "where": finding.where,
        "what": finding.what,
        "do": finding.do,
        "runbook": check.runbook,
    }


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
