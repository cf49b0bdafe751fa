"""First lines of docstrings name the thing in plain terms, by the rules of CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("airflow_image", "dags", "dev", "etl_image", "external-db", "ops", "tests")
BEGINS = re.compile(r"(What|Who|Whoever|Whom|Whose|Where|How far|That)\b")
WORDS = re.compile(
    r"\b(nobody|somebody|whoever|told|tells|in words|by itself|of its own|looked after)\b", re.IGNORECASE
)


def first_lines(folder: str) -> list[tuple[str, str]]:
    """Docstrings of a folder: file and line, and the first line of each."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                line = getattr(node, "lineno", 1)
                found.append((f"{path.relative_to(ROOT)}:{line}", text.splitlines()[0]))
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_first_lines_are_plain(folder: str) -> None:
    bad = [f"{place}: {line}" for place, line in first_lines(folder) if BEGINS.match(line) or WORDS.search(line)]
    assert bad == [], "\n".join(bad)
