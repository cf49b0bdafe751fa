"""Packages import from lower layers only, as docs/architecture.md draws it."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "etl": "etl_image", "etl_airflow": "airflow_image", "ops": ".", "ops.deploy": ".", "dev.sandbox.sqlserver": ".",
}  # fmt: skip
# Each layer may import from itself only within one of its names, and from all layers before it.
LAYERS = {
    "etl": [
        {"", "errors", "logs"}, {"model"}, {"config"},
        {"postgres", "capture", "sqlserver", "storage", "metrics", "arguments"},
        {"steps", "exporter"}, {"new", "verify"}, {"check", "cli"}, {"__main__"},
    ],
    "etl_airflow": [
        {"", "metrics", "probe", "secrets_backend", "executor", "statsd_client", "worker_task", "metadata_connection"},
        {"grants", "export_pipelines", "pods", "task_logs", "web"}, {"dag"},
    ],
    "ops": [{""}, {"cluster"}, {"deploy"}, {"doctor"}],
    "ops.deploy": [
        {"", "options", "secrets", "first_run"}, {"manifests"}, {"images", "machine", "final_checks", "report"},
        {"data"}, {"preflight"}, {"up", "down"}, {"cli"}, {"add"}, {"__main__"},
    ],
    "dev.sandbox.sqlserver": [
        {"errors", "types", "client"}, {"", "faults", "wire"}, {"engine"}, {"sql"}, {"server"}, {"__main__"},
    ],
}  # fmt: skip


def modules(package: str) -> dict[str, Path]:
    """Every module of a package, by its name."""
    top = ROOT / FOLDERS.get(package, ".")
    found = {}
    for path in (top / package.replace(".", "/")).rglob("*.py"):
        name = ".".join(path.relative_to(top).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


TOKENS = "etl_airflow.dag.token_login"
"""Its functions import what the Airflow image has with the extra `entra` only."""


def imported(path: Path, *, in_functions: bool = True) -> Iterator[tuple[str, str]]:
    """The imports of a module: pairs of a module and the name taken from it, if any."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if in_functions else tree.body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def imports(name: str, path: Path, known: dict[str, Path], *, in_functions: bool = True) -> Iterator[str]:
    """The modules of `known` that a module imports."""
    for module, taken in imported(path, in_functions=in_functions):
        assert not module.startswith("."), f"{name} imports relatively, which hides from where."
        whole = f"{module}.{taken}"
        if whole in known or module in known:
            yield whole if whole in known else module


@pytest.mark.parametrize("package", FOLDERS)
def test_no_module_imports_from_a_higher_layer(package: str) -> None:
    known = modules(package)
    height = {name: number for number, names in enumerate(LAYERS[package]) for name in names}

    def part(module: str) -> str:
        return module.removeprefix(package).lstrip(".").partition(".")[0]

    assert {part(module) for module in known} <= height.keys(), "each package and module has its layer"
    upward = [
        f"{name} imports {other}"
        for name, path in known.items()
        for other in imports(name, path, known)
        if part(other) != part(name) and height[part(other)] >= height[part(name)]
    ]
    assert upward == []


def test_the_airflow_image_needs_none_of_the_packages_of_the_steps() -> None:
    """It installs `etl` without its extra `engine`, so nothing that DAGs import may need one of these packages."""
    extras = tomllib.loads((ROOT / "etl_image" / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[^\w-]", entry)[0].replace("-", "_") for entry in extras["engine"]}
    engine = names - {"structlog"}  # Airflow has it, too
    known = modules("etl") | modules("etl_airflow")
    reached, left = {}, [name for name in known if name.startswith("etl_airflow")]
    while left:
        name = left.pop()
        reached[name] = known[name]
        found = imports(name, known[name], known, in_functions=name != TOKENS)
        left += [other for other in found if other not in reached]
    needed = [
        f"{name} imports {module}"
        for name, path in reached.items()
        for module, _ in imported(path, in_functions=name != TOKENS)
        if module.partition(".")[0] in engine
    ]
    assert needed == []


def test_the_product_imports_nothing_of_tests() -> None:
    for folder in ("airflow_image", "dags", "dev", "etl_image", "ops"):
        for path in (ROOT / folder).rglob("*.py"):
            names = [module for module, _ in imported(path)]
            assert not [name for name in names if name.partition(".")[0] == "tests"], path


def test_parts_of_the_tests_import_from_lower_layers_and_no_test_imports_from_another() -> None:
    order = ["cluster", "doubles", "harness", "fuzz", "bench", "faults", "chaos"]
    # The double of Loki is copied into an image, as a package of its name.
    known = {name: path for name, path in modules("tests").items() if ".loki_double" not in name}
    upward = []
    for name, path in known.items():
        part = name.split(".")[1] if "." in name else ""
        allowed = order[: order.index(part) + 1] if part in order else [*order, part]
        for other in imports(name, path, known):
            is_test = other.rpartition(".")[2].startswith("test_")
            if other != "tests" and (other.split(".")[1] not in allowed or is_test):
                upward.append(f"{name} imports {other}")
    assert upward == []
