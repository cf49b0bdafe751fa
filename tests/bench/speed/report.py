"""docs/benchmarks.md, made of the figures in docs/benchmarks: a section for each file.

`figures.json` is what `make bench` has measured. Any other file there is a `Section` as it stands, in JSON: who
measures something else writes one, and it is in the document from then on.
"""

from pathlib import Path

from dev.sandbox.stack import ROOT
from tests.bench.speed.data_path import data_path
from tests.bench.speed.document import Section, document
from tests.bench.speed.figures import Figures

FOLDER = ROOT / "docs" / "benchmarks"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
FIGURES = "figures.json"


def read_sections(folder: Path) -> list[Section]:
    """The sections of a folder: the data path's first, others in the order of their files' names."""
    files = sorted(folder.glob("*.json"), key=lambda path: (path.name != FIGURES, path.name))
    return [
        data_path(Figures.model_validate_json(path.read_text()))
        if path.name == FIGURES
        else Section.model_validate_json(path.read_text())
        for path in files
    ]


def write_section(name: str, section: Section) -> None:
    """Write a section of another benchmark, and regenerate the document."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).write_text(section.model_dump_json(indent=1) + "\n")
    write_document()


def write_document(folder: Path = FOLDER, document_file: Path = DOCUMENT) -> None:
    """Regenerate the document."""
    document_file.write_text(document(read_sections(folder)))
