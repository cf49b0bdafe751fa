"""What docs/architecture.md and docs/architecture.html say is deployed."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[2] / "docs"
DRAWING = DOCS / "architecture.html"
_OBJECT = re.compile(r"`([A-Z][A-Za-z]+/[a-z][a-z0-9-]*)`")


def section(title: str) -> str:
    """The text below a heading of the second level in architecture.md, with its sub-sections."""
    _, _, rest = (DOCS / "architecture.md").read_text().partition(f"\n## {title}\n")
    assert rest, f"docs/architecture.md has no section {title}."
    return rest.partition("\n## ")[0]


def objects_in_text() -> set[str]:
    """The objects that the text names, as `Kind/name`."""
    return set(_OBJECT.findall(section("What is deployed")))


def documented_rights() -> dict[str, set[tuple[str, str]]]:
    """What each service account may do, as pairs of resource and verb, from the table in the text."""
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
    """The drawing as an SVG element. What is in it must be XML."""
    found = re.search(r"<svg.*</svg>", DRAWING.read_text(), re.DOTALL)
    assert found, f"{DRAWING} has no drawing."
    return ElementTree.fromstring(found[0])


def drawn_objects() -> Iterator[tuple[str, ElementTree.Element]]:
    """Each object that is drawn, as `Kind/name`, and its part of the drawing."""
    for element in drawing().iter():
        if "data-component" in element.attrib:
            yield element.attrib["data-component"], element
