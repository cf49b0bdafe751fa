"""Arguments of the command line: a pipeline as JSON, or the path of its file, and the partition of a step."""

import ast
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline

_Model = TypeVar("_Model", bound=BaseModel)
_SUFFIXES = (".json", ".py")


def read_pipeline(given: str) -> Pipeline:
    """One pipeline, given as those of `read_pipelines` are. Raises ConfigurationError for another number."""
    found = _pipelines(given)
    if len(found) != 1:
        raise ConfigurationError(f"--pipeline: {given} has {len(found)} pipelines, and one is needed.")
    return found[0]


def read_dag(file: Path) -> list[Pipeline]:
    """The pipelines in a DAG file, which is read and not run: Airflow need not be installed, and no code is trusted.

    Raises ConfigurationError for a file that does not write them out as `etl new-pipeline` does.
    """
    try:
        tree = ast.parse(file.read_text())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from error
    except (SyntaxError, ValueError) as error:
        raise ConfigurationError(f"{file} is not Python: {error}.") from error
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _calls(node, "Pipeline")]
    return [_validated(str(file), Pipeline.model_validate, _arguments(file, call)) for call in calls]


def read_pipelines(given: list[str] | None) -> list[Pipeline]:
    """Pipelines, each argument JSON, a .json file, the .py file of a DAG, or a folder of them.

    Raises ConfigurationError.
    """
    return [pipeline for each in given or [] for pipeline in _pipelines(each)]


def parse(model: type[_Model], option: str, text: str) -> _Model:
    """Validate JSON as a model. Raises ConfigurationError, which names the option and each field that is wrong."""
    return _validated(option, model.model_validate_json, text)


def _validated(option: str, validate: Callable[[Any], _Model], given: Any) -> _Model:
    try:
        return validate(given)
    except ValidationError as error:
        problems = (
            f"{'.'.join([option, *map(str, problem['loc'])])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        )
        raise ConfigurationError("; ".join(problems) + ".") from None


def _calls(node: ast.Call, name: str) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == name


def _arguments(file: Path, call: ast.Call) -> dict[str, Any]:
    """The keyword arguments of a call. Raises ConfigurationError for what is not written out."""
    try:
        return {str(word.arg): _value(word.value) for word in call.keywords}
    except ValueError:
        raise ConfigurationError(
            f"{file}: the pipeline in line {call.lineno} is not written out there, so only Airflow can read it; export"
            " it as JSON: python -m etl_airflow.export_pipelines FOLDER."
        ) from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and _calls(node, "timedelta"):
        return timedelta(**{str(word.arg): ast.literal_eval(word.value) for word in node.keywords})
    return ast.literal_eval(node)


def _pipelines(given: str) -> list[Pipeline]:
    """One pipeline, those of a DAG file, or all in a folder."""
    if given.lstrip().startswith("{"):  # JSON may be too long for a path
        return [parse(Pipeline, "pipeline", given)]
    path = Path(given)
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES) if path.is_dir() else [path]
    found = [pipeline for file in files for pipeline in _of_file(file)]
    # Without any, prepare-sink would grant loads the right to create tables.
    if not found:
        raise ConfigurationError(f"--pipeline: {given} holds no pipeline, neither as JSON nor as a DAG.")
    return found


def _of_file(file: Path) -> list[Pipeline]:
    if file.suffix == ".py":
        return read_dag(file)
    if file.suffix not in _SUFFIXES:
        raise ConfigurationError(f"--pipeline: {str(file)[:100]!r} is neither JSON nor a .json or .py file.")
    try:
        return [parse(Pipeline, "pipeline", file.read_text())]
    except OSError as error:
        raise ConfigurationError(f"--pipeline: {file} cannot be read: {error.strerror}.") from error
