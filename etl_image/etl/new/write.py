"""The text of a DAG file, in the style of dags/orders_etl.py and as `ruff format` leaves it."""

import json
import re
import textwrap
import zlib
from datetime import timedelta
from typing import Any

from etl.errors import printable
from etl.model.column import Column
from etl.model.modes import DeleteSettings
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.new.choose import Choice

_WIDTH = 120
_TIMEDELTA = "from datetime import timedelta\n\n"
_IMPORTS = """\
import pendulum
from airflow.sdk import DAG
from etl.model.pipeline import Pipeline
from etl_airflow.dag.factory import pipeline_dag
"""
_PIPELINE = "from etl.model.pipeline import Pipeline\n"
_COLUMN = "from etl.model.column import Column\n"
_TAKEN = ("DAG", "Pipeline")
_EVERY_MINUTES = 15
_AT_NIGHT = 2


def render(choice: Choice, time_zone: str, owner: str) -> str:
    """The file: docstring, imports, the pipeline with the reasons as comments, and its DAG."""
    pipeline = choice.pipeline
    body = "".join(
        _comment(choice.reasons.get(name, ""), 4) + _field(name, value, choice) for name, value in _settings(pipeline)
    )
    has_column = any(isinstance(each, Column) for each in pipeline.columns.values())
    imports = _IMPORTS.replace(_PIPELINE, _COLUMN + _PIPELINE) if has_column else _IMPORTS
    constant = pipeline.name.upper()
    constant += "_TABLE" if constant in _TAKEN else ""
    has_time = any(isinstance(value, timedelta) for _, value in _settings(pipeline))
    return (
        f'"""{_docstring(pipeline)}"""\n\n{_TIMEDELTA if has_time else ""}'
        f"{imports}\n{constant} = Pipeline(\n{body})\n\n"
        f"dag: DAG = pipeline_dag(\n    {constant},\n    schedule={_text(schedule(pipeline))},\n"
        f"    start_date=pendulum.datetime(2026, 1, 1, tz={_text(time_zone)}),\n    owner={_text(owner)},\n)\n"
    )


def schedule(pipeline: Pipeline) -> str:
    """Every quarter of an hour; a whole table at night. The minute depends on the name: not all start at once."""
    if pipeline.mode == "replace":
        return f"{zlib.crc32(pipeline.name.encode()) % 60} {_AT_NIGHT} * * *"
    minute = zlib.crc32(pipeline.name.encode()) % _EVERY_MINUTES
    return f"{f'{minute}-59' if minute else '*'}/{_EVERY_MINUTES} * * * *"


def _settings(pipeline: Pipeline) -> list[tuple[str, Any]]:
    """The settings that differ from their defaults: those of the model in its order, then those of deleted rows."""
    fields = Pipeline.model_fields
    names = [*(name for name in fields if name not in DeleteSettings.model_fields), *DeleteSettings.model_fields]
    return [
        (name, getattr(pipeline, name))
        for name in names
        if fields[name].is_required() or getattr(pipeline, name) != fields[name].default
    ]


def _field(name: str, value: Any, choice: Choice) -> str:
    if name == "columns":
        lines = "".join(_column(column, declared, choice.remarks.get(column, "")) for column, declared in value.items())
        return f"    columns={{\n{lines}    }},\n"
    return _keyword(name, value)


def _column(name: str, declared: str | Column, remark: str) -> str:
    line, remark = f"        {_text(name)}: {_declared(declared)},", remark.strip()
    if remark and len(f"{line}  # {remark}") <= _WIDTH:
        return f"{line}  # {remark}\n"
    return f"{_comment(remark, 8)}{line}\n"


def _declared(column: str | Column) -> str:
    if isinstance(column, str):
        return _text(column)
    others = {"source": column.source, "constant": column.constant, "expression": column.expression}
    given = [f"{name}={_literal(value)}" for name, value in others.items() if value is not None]
    return f"Column({', '.join([_text(column.type), *given])})"


def _keyword(name: str, value: Any) -> str:
    """A keyword argument; a list that is too long for its line has a line for each entry."""
    line = f"    {name}={_literal(value)},\n"
    if len(line) <= _WIDTH + 1 or not isinstance(value, list | dict):
        return line
    entries = value.items() if isinstance(value, dict) else value
    inner = "".join(
        f"        {f'{_text(each[0])}: {_literal(each[1])}' if isinstance(value, dict) else _literal(each)},\n"
        for each in entries
    )
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"    {name}={opening}\n{inner}    {closing},\n"


def _literal(value: Any) -> str:
    if isinstance(value, TableName):
        return _text(str(value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, timedelta):
        return f"timedelta({_duration(value)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(name)}: {_literal(each)}' for name, each in value.items())}}}"
    return repr(value)


def _duration(value: timedelta) -> str:
    parts = {"days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}
    return ", ".join(f"{name}={count}" for name, count in parts.items() if count)


def _text(value: str) -> str:
    """A string literal; in single quotes where that saves backslashes, as `ruff format` writes it."""
    inner = json.dumps(value, ensure_ascii=False)[1:-1]
    if value.count('"') > value.count("'"):
        return "'" + inner.replace('\\"', '"').replace("'", "\\'") + "'"
    return f'"{inner}"'


def _comment(text: str, indent: int) -> str:
    lines = textwrap.wrap(text, _WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{' ' * indent}# {line}\n" for line in lines)


def _docstring(pipeline: Pipeline) -> str:
    """One line; a table is named in it if its name needs no escape and leaves the line short."""
    text = f"The table {pipeline.source}, for Airflow."
    is_plain = re.fullmatch(r"[\w.]+", str(pipeline.source)) and len(text) <= _WIDTH - 6
    return text if is_plain else f"The pipeline {printable(pipeline.name)}, for Airflow."
