"""The checklist, the README and the documentation speak of things that exist."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from etl.config.settings import Settings
from etl.config.sink_logins import EXPORTER, SinkLogin
from etl.errors import ExitCode
from etl.model.pipeline import Pipeline
from etl.sqlserver import prepare_sql
from orders_etl import ORDERS
from pydantic import SecretStr

from dev import recording, types_page

ROOT = Path(__file__).resolve().parents[2]
MACHINES = (ROOT / "docs" / "machines.md").read_text()
PROOFS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "CHECKLIST.md").read_text())
SHOWN = [(f"tests/unit/{file}", name) for file, name in re.findall(r"`(\w+\.py)::(\w+)` \|$", MACHINES, re.MULTILINE)]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
OTHER_LOGINS = Settings(
    sink_url=SecretStr("mssql://etl:x@db/sink"),
    sink_exporter_password=SecretStr("y"),
    sink_backup_password=SecretStr("z"),
).sink_logins()[1:]


def test_every_row_of_the_checklist_names_a_test() -> None:
    rows = [line for line in (ROOT / "CHECKLIST.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(PROOFS) > 20


def test_every_row_about_machines_names_a_test() -> None:
    rows = [line for line in MACHINES.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert len(rows) == len(SHOWN) > 10


@pytest.mark.parametrize(("file", "name"), [*PROOFS, *SHOWN], ids=[name for _, name in [*PROOFS, *SHOWN]])
def test_the_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_readme_names_targets_and_folders_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in re.findall(r"\bmake ([a-z0-9-]+)\b", readme):
        assert f"  make {target} " in listed
    for path in re.findall(r"`([\w-]+/)`", readme):
        assert (ROOT / path).is_dir()
    for link in re.findall(r"\]\(([\w/.-]+)\)", readme):
        assert (ROOT / link).exists()


def test_the_documented_exit_codes_are_the_real_ones() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", ARCHITECTURE, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}


def test_the_page_of_types_is_that_of_the_tables() -> None:
    assert (ROOT / "docs" / "types.md").read_text() == types_page.page(), "make docs-types"


def test_the_recorded_terminal_has_the_commands_of_the_recording() -> None:
    page = recording.PAGE.read_text()
    assert re.findall(r"^\[\d+:\d\d\] \$ (.+)$", page, re.MULTILINE) == recording.COMMANDS, "make docs-recording"


def test_every_setting_is_documented() -> None:
    for name in Settings.model_fields:
        assert f"`{name.upper()}`" in OPERATIONS


def test_every_setting_of_a_pipeline_is_documented_with_its_default() -> None:
    table = OPERATIONS.split("A pipeline is:")[1].split("\n\n")[1]
    documented = {
        name: default.strip("`") for names, default in re.findall(r"^\| (`[^|]+) \| ([^|]*?) ?\|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }  # fmt: skip
    words = {"0:10:00": "10 minutes", "False": "no", "None": "none", "[]": "none", "{}": "none", "0:00:00": "each run"}
    real = {
        name: "" if field.is_required() else words.get(str(field.default), str(field.default))
        for name, field in Pipeline.model_fields.items()
    }
    assert documented == real


def test_the_documented_grants_are_the_real_ones() -> None:
    table = OPERATIONS.split("## Grants")[1].split("##")[0]
    rows: list[tuple[str, str]] = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[1:]
    documented = {place.strip("`"): words for place, words in rows}
    assert documented.pop("etl_staging").startswith("everything")
    of_named = documented.pop("the sink table of each pipeline")
    of_none_named = documented.pop("instead of that, where no pipelines are named: `dbo")
    assert {**documented, "dbo.orders": of_named} == told(prepare_sql.permissions([ORDERS]))
    assert {**documented, "dbo": of_none_named} == told(prepare_sql.permissions())


def test_the_documented_grants_of_the_other_logins_are_the_real_ones() -> None:
    table = OPERATIONS.split("## Grants")[1].split("\n## ")[0]
    rows: list[tuple[str, str, str]] = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([^|]+) \|$", table, re.MULTILINE)
    without_settings = [(login, role, re.sub("`[A-Z_]+`", "", words)) for login, role, words in rows]
    documented = {
        (login, role): set(re.findall(r"[A-Z]{2,}(?: [A-Z]+)*|etl\.\w+", words))
        for login, role, words in without_settings
    }
    assert documented == {(login.user, login.role): granted(login) for login in OTHER_LOGINS}


def granted(login: SinkLogin) -> set[str]:
    """The grants in statements: the rights, and the tables."""
    statements = prepare_sql.grants_of_own_login(login.role, prepare_sql.METERED) + prepare_sql.grants_on_server(login)
    if login.role == EXPORTER:
        statements += prepare_sql.grants_of_counters(login.user, "etl", "16")[:1]
    words = {word for one in statements for word in re.findall(r"GRANT ((?:[A-Z]+ )*[A-Z]+) (?:ON|TO)", one)}
    return words | {
        f"{schema}.{table}" for one in statements for schema, table in re.findall(r"\[(\w+)\]\.\[(\w+)\]", one)
    }


def told(permissions: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Permissions as the documentation writes them."""
    return {re.sub(r"\w+::|[][]", "", on) or "the database": ", ".join(words) for on, words in permissions.items()}
