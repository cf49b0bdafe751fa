"""The parts of docs/benchmarks.md, and how they are written in Markdown."""

from textwrap import fill

from pydantic import BaseModel

_HEAD = """# Benchmarks

Written by `make bench` from the figures in [benchmarks/](benchmarks/); changes made here by hand are lost. What counts
are ratios within one run, on one machine: absolute times say little about yours.
"""
_VERDICTS = {True: "holds", False: "does **not** hold", None: "not measured"}


class Claim(BaseModel):
    """A claim, the measurement, and whether it holds (None: not measured)."""

    claim: str
    measured: str
    holds: bool | None
    remark: str = ""


class Table(BaseModel):
    """Figures in rows and columns, with a line about them before."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Section(BaseModel):
    """A part of the document. `plot`: the name of a picture in the folder of the figures."""

    title: str
    text: list[str] = []
    claims: list[Claim] = []
    plot: str | None = None
    tables: list[Table] = []
    notes: list[str] = []


def document(sections: list[Section]) -> str:
    """The whole text."""
    return "\n".join([_HEAD, *(_section(each) for each in sections)])


def table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; all but its first column to the right."""
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([title, "", *lines, ""])


def _verdict(claim: Claim) -> str:
    return f"{_VERDICTS[claim.holds]} {claim.remark}".strip()


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _section(section: Section) -> str:
    parts = [f"## {section.title}", ""]
    for paragraph in section.text:
        parts += [_wrapped(paragraph), ""]
    if section.claims:
        parts += ["| claim | measured | |", "|---|---|---|"]
        parts += [f"| {each.claim} | {each.measured} | {_verdict(each)} |" for each in section.claims]
        parts.append("")
    if section.plot:
        parts += [f"![{section.title}](benchmarks/{section.plot})", ""]
    parts += [table(each.title, each.columns, each.rows) for each in section.tables]
    parts += [_wrapped(f"* {note}", "  ") for note in section.notes]
    if section.notes:
        parts.append("")
    return "\n".join(parts)
