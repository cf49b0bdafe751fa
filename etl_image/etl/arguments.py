"""JSON arguments of the command line: a pipeline, or the path of its file, and the partition of a step."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline

_Model = TypeVar("_Model", bound=BaseModel)


def read_pipeline(given: str) -> Pipeline:
    """A pipeline, from JSON or a .json file. Raises ConfigurationError."""
    return parse(Pipeline, "pipeline", _read(given))


def read_pipelines(given: list[str] | None) -> list[Pipeline]:
    """Pipelines, each argument JSON, a .json file or a folder of them. Raises ConfigurationError."""
    return [parse(Pipeline, "pipeline", text) for each in given or [] for text in _texts(each)]


def parse(model: type[_Model], option: str, text: str) -> _Model:
    """Validate JSON as a model. Raises ConfigurationError, which names the option and each field that is wrong."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problems = (
            f"{'.'.join([option, *map(str, problem['loc'])])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        )
        raise ConfigurationError("; ".join(problems) + ".") from None


def _texts(pipeline: str) -> list[str]:
    """The JSON of one pipeline, or of all in a folder."""
    # JSON may be too long for a path.
    if pipeline.lstrip().startswith("{") or not Path(pipeline).is_dir():
        return [_read(pipeline)]
    # Without any, prepare-sink would grant loads the right to create tables.
    if not (files := sorted(Path(pipeline).glob("*.json"))):
        raise ConfigurationError(f"--pipeline: the folder {pipeline} holds no .json file, so no pipeline is named.")
    return [_read(str(file)) for file in files]


def _read(pipeline: str) -> str:
    if pipeline.lstrip().startswith("{") or not pipeline.endswith(".json"):
        return pipeline
    try:
        return Path(pipeline).read_text()
    except OSError as error:
        raise ConfigurationError(f"--pipeline: {pipeline} cannot be read: {error.strerror}.") from error
