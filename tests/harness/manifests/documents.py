"""The deployment as documented: in architecture.md, architecture.html, and the table of flows in security.md."""

import re
from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[3] / "docs"
DRAWING = DOCS / "architecture.html"
_OBJECT = re.compile(r"`([A-Z][A-Za-z]+/[a-z][a-z0-9-]*)`")
EVERY_POD, SOURCE, OUTSIDE, IDENTITIES = "every pod", "the source", "outside", "the node's identities"
"""Words in the table of flows that are no labels of pods."""


class Flow(NamedTuple):
    """A row of the table of flows: both ends, by the pods' label or the table's words, and the port."""

    source: str
    target: str
    port: str
    """As in `TCP 5432`."""


def section(title: str, document: str = "architecture.md") -> str:
    """The text below a heading of the second level, with its sub-sections."""
    _, _, rest = (DOCS / document).read_text().partition(f"\n## {title}\n")
    assert rest, f"docs/{document} has no section {title}."
    return rest.partition("\n## ")[0]


def documented_flows(parts: Collection[str]) -> set[Flow]:
    """The flows of the table for an overlay of these parts: its name and those of components."""
    found: set[Flow] = set()
    for row in re.findall(r"^\| (.+) \|$", section("Who talks to whom", "security.md"), re.MULTILINE)[1:]:
        sources, targets, ports, when, _why = (cell.strip() for cell in row.split("|"))
        part = when.removeprefix("not ").strip("`")
        if not when or (part in parts) != when.startswith("not "):
            found |= {Flow(*flow) for flow in product(*map(_listed, (sources, targets, ports)))}
    return found


def _listed(cell: str) -> list[str]:
    return [word.strip("` ") for word in cell.split(",")]


def objects_in_text() -> set[str]:
    """The objects that the text names, as `Kind/name`."""
    return set(_OBJECT.findall(section("What is deployed")))


def documented_rights() -> dict[str, set[tuple[str, str]]]:
    """The rights of each service account, as pairs of resource and verb, from the table in the text."""
    found: dict[str, set[tuple[str, str]]] = {}
    for accounts, rights in re.findall(
        r"^\| (`[^|]+) \| (`[a-z/]+`: [^|]+) \|", section("What is deployed"), re.MULTILINE
    ):
        may = {
            (resource, verb)
            for resource, verbs in re.findall(r"`([a-z/]+)`: ([a-z, ]+)", rights)
            for verb in verbs.split(", ")
        }
        found |= dict.fromkeys(re.findall(r"`([\w-]+)`", accounts), may)
    return found


def drawing() -> ElementTree.Element:
    """The drawing as an SVG element, which must be valid XML."""
    found = re.search(r"<svg.*</svg>", DRAWING.read_text(), re.DOTALL)
    assert found, f"{DRAWING} has no drawing."
    return ElementTree.fromstring(found[0])


def drawn_objects() -> Iterator[tuple[str, ElementTree.Element]]:
    """Each object that is drawn, as `Kind/name`, and its part of the drawing."""
    for element in drawing().iter():
        if "data-component" in element.attrib:
            yield element.attrib["data-component"], element
