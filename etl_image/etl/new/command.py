"""`etl new-pipeline`: a DAG file for each table that matches, or the reason for which there is none."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from etl.arguments import read_dag
from etl.config.settings import Settings
from etl.errors import ConfigurationError, ExitCode, TryAgainError, printable
from etl.model.pipeline import Pipeline
from etl.new.catalogue import SourceTable, read_tables
from etl.new.choose import Choice, Wishes, choose
from etl.new.measure import Measure
from etl.new.names import Names
from etl.new.write import render
from etl.postgres.checks import check_source
from etl.postgres.connection import snapshot

STANDARD_OUTPUT = "-"
_DRY = "would be written"


@dataclass(frozen=True)
class Target:
    """The folder of the files, or STANDARD_OUTPUT, and what they say beside the table."""

    folder: str
    time_zone: str
    owner: str
    sink_schema: str | None = None
    overwrite: bool = False
    dry_run: bool = False


@dataclass
class Outcome:
    """The outcome of a table: `written`, `skipped` or `refused`, and the reason or the choice."""

    table: str
    outcome: str
    file: str = ""
    reason: str = ""
    text: str = field(default="", repr=False)


def new_pipelines(
    settings: Settings, patterns: Sequence[str], exclude: Sequence[str], wishes: Wishes, target: Target
) -> ExitCode:
    """Write the DAG files and report each table; fails if every table is refused."""
    existing, files = _existing(target)
    names = Names(existing, target.sink_schema)
    outcomes = []
    with snapshot(settings, "new-pipeline", "reading the catalogue") as connection, connection.cursor() as cursor:
        tables = read_tables(cursor, patterns, exclude)
    for table in tables:
        file = files.get(str(table.name))
        if file and not target.overwrite:
            outcome = Outcome(str(table.name), "skipped", str(file), _why_skipped(settings, table, file))
        else:
            outcome = _made(settings, table, names, wishes, target, file)
        _report(outcome, target)
        outcomes.append(outcome)
    _sum_up(outcomes, target)
    return ExitCode.CONFIGURATION if all(each.outcome == "refused" for each in outcomes) else ExitCode.OK


def _why_skipped(settings: Settings, table: SourceTable, file: Path) -> str:
    """The reason, with the first difference if the file does not fit the table, as one for another database."""
    pipeline = next(each for each in read_dag(file) if each.source == table.name)
    try:
        with snapshot(settings, pipeline.name, "reading it") as connection, connection.cursor() as cursor:
            check_source(pipeline, cursor)
    except ConfigurationError as error:
        return f"The file is there, but its runs would stop: {error} --overwrite replaces it by one that fits."
    return "The file is there; --overwrite replaces it."


def _made(
    settings: Settings, table: SourceTable, names: Names, wishes: Wishes, target: Target, file: Path | None
) -> Outcome:
    """Choose a pipeline for a table, check it as the first run does, and write its file, the one it has or another."""
    name, about = names.of(table.name), str(table.name)
    try:
        chosen = choose(table, Measure(settings), name, wishes)
        with snapshot(settings, about, "reading it") as connection, connection.cursor() as cursor:
            check_source(chosen.pipeline, cursor)
        if file and len(read_dag(file)) > 1:
            raise ConfigurationError(f"{file} has other pipelines, too, which --overwrite would remove.")
    except (ConfigurationError, TryAgainError) as error:
        reason = str(error).removeprefix(f"{name[0]}: ").removeprefix(f"{about}: ")
        return Outcome(about, "refused", reason=reason[:1].upper() + reason[1:])
    names.take(table.name)
    return _written(chosen, target, file)


def _written(chosen: Choice, target: Target, file: Path | None) -> Outcome:
    pipeline = chosen.pipeline
    text = render(chosen, target.time_zone, target.owner)
    key = f"key {', '.join(pipeline.key)}" if pipeline.key else "no key"
    version = f"version {pipeline.version}" if pipeline.version else f"mode {pipeline.mode}"
    about = f"{pipeline.sink}, {key}, {version}"
    if "mode" in chosen.reasons:
        about += f". {chosen.reasons['mode']}"
    path = Path(f"{pipeline.name}_etl.py")
    if target.folder != STANDARD_OUTPUT:
        path = file or Path(target.folder) / path
        if not target.dry_run:
            _write(path, text)
    return Outcome(str(pipeline.source), "written", str(path), about, text)


def _write(path: Path, text: str) -> None:
    """Put the file in its place at once, so that Airflow never reads half of it."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from None


def _existing(target: Target) -> tuple[dict[str, Pipeline | None], dict[str, Path]]:
    """The pipelines of the DAG files that are there, by their names, and the files, by source table.

    None stands for a name that a file has whose pipeline is of another name, or that only Airflow can read.
    """
    found: dict[str, Pipeline | None] = {}
    files: dict[str, Path] = {}
    if target.folder == STANDARD_OUTPUT:
        return found, files
    if not Path(target.folder).is_dir():
        raise ConfigurationError(
            f"--to: there is no folder {target.folder} here. Run it in the checkout, or name the folder."
        )
    for path in sorted(Path(target.folder).glob("*.py")):
        found.setdefault(path.stem.removesuffix("_etl"))
        try:
            pipelines = read_dag(path)
        except ConfigurationError:
            continue
        found |= {pipeline.name: pipeline for pipeline in pipelines}
        files |= {str(pipeline.source): path for pipeline in pipelines}
    return found, files


def _report(outcome: Outcome, target: Target) -> None:
    """A line for each table; for programs as JSON, with the text."""
    if target.folder == STANDARD_OUTPUT:
        print(json.dumps(vars(outcome), ensure_ascii=False), flush=True)
        return
    kind = _DRY if target.dry_run and outcome.outcome == "written" else outcome.outcome
    print(f"{kind:8} {printable(outcome.table)}" + (f" → {outcome.file}" if outcome.file else ""))
    print(f"         {outcome.reason}", flush=True)
    if target.dry_run and outcome.text:
        sys.stdout.write(f"\n{outcome.text}\n")


def _sum_up(outcomes: Sequence[Outcome], target: Target) -> None:
    if target.folder == STANDARD_OUTPUT:
        return
    kinds = {"written": _DRY if target.dry_run else "written", "skipped": "skipped", "refused": "refused"}
    counts = [f"{sum(each.outcome == kind for each in outcomes)} {words}" for kind, words in kinds.items()]
    print(f"{', '.join(counts)}." + (" Nothing was written: this was a dry run." if target.dry_run else ""))
