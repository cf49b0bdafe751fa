"""The `etl` command: the steps of a partition, and the commands for sink, backups, checks and metrics."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import structlog
import typer
from structlog.contextvars import bind_contextvars

from etl.arguments import parse, read_pipeline, read_pipelines
from etl.config.settings import Settings, read_settings
from etl.errors import ConfigurationError, EtlError, ExitCode, TryAgainError, printable
from etl.logs import configure_logs, redact
from etl.model.masking import Mask, WithheldError
from etl.model.window import Partition
from etl.steps.context import StepContext
from etl.steps.memory import give_memory_back

_OnePipeline = Annotated[
    str, typer.Option(envvar="ETL_PIPELINE", help="JSON, or the path of a .json file or of a DAG's .py file")
]

app = typer.Typer(
    help="The steps of a pipeline from Postgres to SQL Server; every command may be repeated at any time.\n\n"
    "Exit codes: 75 try again; 78 (configuration), 65 (data) and 2 (usage) do not retry.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _add_command(name: str, description: str, module: str, function: str) -> None:
    """Add the command of a step, which works on a partition."""

    @app.command(name, help=description)
    def command(
        pipeline: _OnePipeline,
        run_id: Annotated[str, typer.Option(help="the run that this partition belongs to")],
        partition: Annotated[
            str, typer.Option(help='JSON: {"window": {"low": TIME, "high": TIME}, "lower": [KEY], "upper": [KEY]}')
        ],
    ) -> None:
        part = parse(Partition, "partition", partition)
        work = StepContext(part.completed(read_pipeline(pipeline)), run_id, part, read_settings())
        # Fields of every log line of the step, including the last one of a failure.
        bind_contextvars(pipeline=work.pipeline.name, run_id=run_id, partition=work.partition.id, step=name)
        _warn_of_tls(work.settings)
        # Imported here, so that a step starts without the libraries of the others.
        with _withheld(work.mask):
            getattr(import_module(module), function)(work)


_add_command(
    "extract", "Read a partition of the source, in one snapshot, into staging.", "etl.steps.extract", "extract"
)
_add_command(
    "filter",
    "Keep the staged rows the filter is true for; set aside what breaks the type rules.",
    "etl.steps.filter",
    "filter_rows",
)
_add_command("load", "Bring the kept rows into the sink, exactly once.", "etl.steps.load", "load")
_add_command(
    "run", "Extract, filter and load at the same time, in one process, without staging.", "etl.steps.run", "run"
)


@app.command(
    "prepare-sink",
    help="Make what loads need in the sink: database, login, schemas, tables, grants; an administrator's task.",
)
def prepare(
    pipeline: Annotated[
        list[str] | None,
        typer.Option(help="JSON, a .json or .py file, a folder of them; may be repeated: loads then create no others"),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="seconds to wait for a server that is not up yet")] = 60,
) -> None:
    bind_contextvars(step="prepare-sink")
    import_module("etl.sqlserver.prepare").prepare_sink(_warn_of_tls(read_settings()), read_pipelines(pipeline), wait)


@app.command(
    "prepare-source",
    help="Print the SQL that lets pipelines read the source's write-ahead log; an administrator's task.",
)
def prepare_log(
    pipeline: Annotated[list[str], typer.Option(help="JSON, a .json or .py file, a folder of them; may be repeated")],
    undo: Annotated[bool, typer.Option("--undo", help="take it back: slot, publication, replica identity")] = False,
    execute: Annotated[
        bool, typer.Option("--execute", help="run it as SOURCE_ADMIN_USER, with SOURCE_ADMIN_PASSWORD or …_FILE")
    ] = False,
    wait: Annotated[float, typer.Option(min=1, help="seconds that a statement waits for locks")] = 10,
) -> None:
    bind_contextvars(step="prepare-source")
    prepare_source = import_module("etl.postgres.prepare").prepare_source
    settings = _warn_of_tls(read_settings())
    prepare_source(settings, read_pipelines(pipeline), undo=undo, execute=execute, wait_seconds=wait)


@app.command("backup-sink", help="Have the sink's server write its database to a file of BACKUP_FOLDER.")
def backup(keep: Annotated[int, typer.Option(min=1, help="how many backups stay; older ones are removed")] = 7) -> None:
    bind_contextvars(step="backup-sink")
    import_module("etl.sqlserver.backup").backup_sink(_warn_of_tls(read_settings()), keep)


@app.command("restore-sink", help="Put a backup in the place of the sink's database, and let its login in again.")
def restore(file: Annotated[str, typer.Argument(help="its name in BACKUP_FOLDER")]) -> None:
    bind_contextvars(step="restore-sink")
    import_module("etl.sqlserver.backup").restore_sink(_warn_of_tls(read_settings()), file)


@app.command("copy-backups", help="Copy to BACKUP_URL what it lacks of the backups in BACKUP_FOLDER.")
def copy(
    back: Annotated[bool, typer.Option("--back", help="bring the newest of each kind from there instead")] = False,
) -> None:
    bind_contextvars(step="copy-backups")
    import_module("etl.storage.backup_copy").copy_backups(read_settings(), back=back)


@app.command("erase", help="Remove a row from sink and staging, and say what else has it; an administrator's task.")
def erase(
    pipeline: _OnePipeline,
    key: Annotated[
        str, typer.Option(envvar="ERASE_KEY", help="its value, or a JSON list; `-` reads it from standard input")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="change nothing, and say what would be removed")] = False,
    even_if_at_source: Annotated[
        bool, typer.Option("--even-if-at-source", help="do not ask the source, from where a run could bring it back")
    ] = False,
) -> None:
    bind_contextvars(step="erase")
    settings, wanted = _warn_of_tls(read_settings()), read_pipeline(pipeline)
    text = sys.stdin.readline().rstrip("\n") if key == "-" else key
    with _withheld(settings.mask(wanted.with_sensitive_key())):
        erase_row = import_module("etl.steps.erase").erase
        erase_row(settings, wanted, text, dry_run=dry_run, ask_source=not even_if_at_source)


@app.command("mask", help="Print, for each line of standard input, the mask by which messages show such a value.")
def mask(
    pipeline: _OnePipeline,
    column: Annotated[str, typer.Option(help="the column that it is a value of")],
) -> None:
    wanted = read_pipeline(pipeline)
    if column not in wanted.columns:
        raise ConfigurationError(f"--column: the pipeline {wanted.name} has no column {printable(column)}.")
    made = read_settings().mask(wanted.model_copy(update={"sensitive": [column]}))
    with _withheld(made):
        for line in sys.stdin:
            sys.stdout.write(made.masked(column, line.rstrip("\n")) + "\n")


@app.command(
    "verify", help="Compare all rows of a pipeline on both sides, and report each that differs; exit code 65 if any do."
)
def verify(
    pipeline: _OnePipeline,
    run_id: Annotated[str, typer.Option(help="the run that this verification belongs to")],
    mode: Annotated[Literal["quick", "deep"], typer.Option(help="compare key and version, or all columns")] = "quick",
    repair: Annotated[
        bool,
        typer.Option(
            "--repair/--no-repair", help="bring the rows that differ from the source again, and compare once more"
        ),
    ] = False,
) -> None:
    settings, wanted = _warn_of_tls(read_settings()), read_pipeline(pipeline)
    bind_contextvars(pipeline=wanted.name, run_id=run_id, partition="verify", step="verify")
    with _withheld(settings.mask(wanted)):
        import_module("etl.verify.command").verify(settings, wanted, run_id, mode, repairs=repair)


@app.command("check", help="Say whether source, sink and staging are there for the steps.")
def check(
    what: Annotated[list[str] | None, typer.Argument(help="some of: source, sink, staging; default: all")] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="a table that must be readable at the source; may be repeated")
    ] = None,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(
            help="JSON, a .json or .py file, a folder of them; may be repeated: what sink tables and logs lack"
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="how long each may take")] = 15,
) -> None:
    bind_contextvars(step="check")
    pipelines = read_pipelines(pipeline)
    raise typer.Exit(import_module("etl.check").check(read_settings(), what or [], table or [], seconds, pipelines))


@app.command("new-pipeline", help="Write a DAG file for each table that matches: columns, key, version, with reasons.")
def new_pipeline(
    table: Annotated[list[str], typer.Argument(help="SCHEMA.TABLE, or with *: 'public.*'")],
    exclude: Annotated[list[str] | None, typer.Option(help="leave these out; may be repeated")] = None,
    to: Annotated[
        str, typer.Option(help="the folder of the files; `-`: a line of JSON for each table instead")
    ] = "dags",
    key: Annotated[list[str] | None, typer.Option(help="a column of the key; may be repeated")] = None,
    version: Annotated[
        str | None, typer.Option(help="the column that grows with each change, in the tables that have it")
    ] = None,
    deletes: Annotated[
        Literal["keep", "mark", "delete"], typer.Option(help="what becomes of rows that the source deletes")
    ] = "delete",
    big: Annotated[
        bool, typer.Option("--big", help="replace tables of more than 20 million rows, too, where there is no version")
    ] = False,
    sink_schema: Annotated[str | None, typer.Option(help="default: dbo for public, else the source's")] = None,
    time_zone: Annotated[str, typer.Option(help="of the schedules")] = "Europe/Berlin",
    owner: Annotated[str, typer.Option(help="of the DAGs")] = "data-platform",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that are there")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="write nothing, and show the files")] = False,
) -> None:
    bind_contextvars(step="new-pipeline")
    command, choose = import_module("etl.new.command"), import_module("etl.new.choose")
    target = command.Target(to, time_zone, owner, sink_schema, overwrite, dry_run)
    wishes = choose.Wishes(key or (), version, deletes, big)
    raise typer.Exit(command.new_pipelines(_warn_of_tls(read_settings()), table, exclude or (), wishes, target))


@app.command(
    "preview", help="Say what a pipeline would do: rows, time, types, rejects in a sample, DDL, the first run."
)
def preview(
    pipeline: Annotated[
        str, typer.Argument(envvar="ETL_PIPELINE", help="the .py file of a DAG, a .json file, or JSON")
    ],
) -> None:
    bind_contextvars(step="preview")
    settings, wanted = _warn_of_tls(read_settings()), read_pipeline(pipeline)
    with _withheld(settings.mask(wanted)):
        import_module("etl.new.preview").preview(settings, wanted)


@app.command("export-metrics", help="Serve Prometheus metrics of the sink and of Airflow's metadata database.")
def export(
    port: Annotated[int, typer.Option(min=1, max=65535, help="of /metrics and /healthz")] = 9187,
    certificates: Annotated[
        Path | None, typer.Option(help="a folder of certificates, for metrics of when they end")
    ] = None,
) -> None:
    bind_contextvars(step="export-metrics")
    import_module("etl.exporter.server").export_metrics(_warn_of_tls(read_settings()), port, certificates)


def main() -> NoReturn:
    """Run the command. A failure is one sentence on stderr, and an exit code."""
    give_memory_back()
    secrets: list[str] = []
    configure_logs(secrets)
    try:
        secrets.extend(read_settings().secrets())
        code = app(standalone_mode=False) or ExitCode.OK
    except typer.Exit as ended:
        code = ended.exit_code
    except EtlError as error:
        structlog.get_logger().error(str(error))
        code = error.exit_code
    except OSError as error:
        translated = TryAgainError(f"The system said: {error.strerror or error} ({error.filename or 'no file'}).")
        structlog.get_logger().error(str(translated))
        code = translated.exit_code
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a driver's panic is no Exception
        code = _unexpected(error, secrets)
    sys.exit(int(code))


@contextmanager
def _withheld(mask: Mask) -> Iterator[None]:
    """Withhold the message of an unexpected error if the pipeline has sensitive columns, since it may have a value."""
    try:
        yield
    except (EtlError, OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if not mask.covers_any:
            raise
        raise WithheldError(error).with_traceback(error.__traceback__) from None


def _warn_of_tls(settings: Settings) -> Settings:
    """Warn, once in a process, if TLS is not verified."""
    if warning := settings.tls_warnings():
        structlog.get_logger().warning(warning)
    return settings


def _unexpected(error: BaseException, secrets: list[str]) -> int:
    """Print usage errors as Typer does; log any other error as a fault of etl, with its traceback."""
    show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is not None and exit_code is not None:
        show()
        return int(exit_code)
    structlog.get_logger().error(
        f"This is a fault in etl, please report it: {type(error).__name__}: {error}",
        traceback=redact(traceback.format_exc(), secrets),
    )
    return ExitCode.UNEXPECTED
