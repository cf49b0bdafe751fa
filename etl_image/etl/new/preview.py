"""`etl preview`: what a pipeline would read and write, from a sample of its rows; it changes nothing."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import pyarrow.parquet as pq

from etl.config.settings import Settings
from etl.errors import printable
from etl.model.new_columns import declare
from etl.model.pipeline import Pipeline
from etl.model.source_type import SourceTypes
from etl.model.version_kind import day_of
from etl.model.window import Partition, Window
from etl.new.catalogue import SourceTable, read_tables
from etl.new.measure import Measure
from etl.new.next_run import FIRST, next_run
from etl.postgres.checks import Source, check_source
from etl.postgres.connection import snapshot
from etl.postgres.sql import highest_version
from etl.sqlserver import described
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import connect_sink
from etl.steps.classify import Classifier
from etl.steps.context import StepContext
from etl.steps.extract import reading
from etl.steps.progress import Progress

SAMPLE = 200_000
"""Rows of the sample, the first that the source sends."""
_EXAMPLES = 3
_TOLERATED = 1 << 62


@dataclass(frozen=True)
class Sample:
    """Rows that went through the steps as far as the sink: counts, bytes a row, seconds, and some rejects."""

    rows: int
    kept: int
    rejected: int
    row_bytes: int
    seconds: float
    rejects: Sequence[str]


def preview(settings: Settings, pipeline: Pipeline) -> None:
    """Print rows, partitions, time, types, rejects in a sample, DDL, and what the next run does.

    Raises ConfigurationError or TryAgainError for a source that a run would refuse, too.
    """
    with snapshot(settings, pipeline.name, f"reading {pipeline.source}") as connection, connection.cursor() as cursor:
        source = check_source(pipeline, cursor)
        tables = read_tables(cursor, [str(pipeline.source)])
    pipeline = _with_new_columns(settings, pipeline, source)
    table = next(each for each in tables if each.name == pipeline.source)
    counted = Measure(settings).rows(table)
    rows = table.rows or 0 if counted is None else counted
    sample = take_sample(settings, pipeline)
    about = "" if counted is not None else "about "
    name, does = next_run(settings, pipeline)
    print(f"{pipeline.name}: {pipeline.source} → {pipeline.sink}\n")
    _print_pairs(
        {
            name: does,
            "later runs": _later_runs(pipeline, table),
            "rows": f"{about}{rows:,} in the source now",
            "filter": f"keeps {_share(sample.kept, sample.rows)} of {sample.rows:,} rows in a sample",
            "rejects": f"{sample.rejected:,} of these rows" + "".join(f"; {each}" for each in sample.rejects),
            "partitions": _partitions(pipeline, rows, "in the first run" if name == FIRST else "if all rows are read"),
            "bytes": f"about {_size(rows * sample.row_bytes)} from the source, {sample.row_bytes:,} bytes a row",
            "time": _time(rows, sample),
        }
    )
    print()
    _print_table([("column", "source", "pipeline", "SQL Server"), *_columns(pipeline, source.types | source.others)])
    print(f"\n{_ddl(pipeline)}")


def _with_new_columns(settings: Settings, pipeline: Pipeline, source: Source) -> Pipeline:
    """The pipeline as plan completes it."""
    if pipeline.on_new_source_column != "add":
        return pipeline
    in_sink: dict[str, str] = {}
    if settings.sink_url is not None:
        with connect_sink(settings, pipeline, pipeline.name) as sink:
            in_sink = described.types(sink.rows(described.find_columns(pipeline.sink)))
    return pipeline.with_columns(declare(str(pipeline.source), source.unlisted(pipeline.omit), in_sink))


def take_sample(settings: Settings, pipeline: Pipeline, rows: int = SAMPLE) -> Sample:
    """Read rows as `extract` does and classify them as `filter` does; what is written meanwhile is removed."""
    # Rows that pushdown drops would not come, and the sample could not say how many they are.
    lenient = pipeline.model_copy(update={"tolerated_rejects": _TOLERATED, "pushdown": False})
    with tempfile.TemporaryDirectory(prefix="etl-preview-") as folder:
        own = settings.model_copy(update={"staging_url": f"file://{folder}", "statsd_host": None})
        partition = Partition(window=_window(settings, pipeline))
        work, progress = StepContext(lenient, "preview", partition, own), Progress("preview", rows)
        file = f"{work.staging.new_folder('run')}/rejects/rows.parquet"
        with reading(work, rows) as source, Classifier(work, source.schema, file, progress) as classifier:
            for _ in classifier.kept(source.batches()):
                pass
            manifest = classifier.verdict(source.manifest())
            rejects = list(islice(_rejects(work, manifest.files.get("rejects")), _EXAMPLES))
    read = manifest.extracted
    return Sample(read, manifest.kept, manifest.rejected, manifest.row_bytes, progress.seconds, rejects)


def _window(settings: Settings, pipeline: Pipeline) -> Window:
    """All versions up to now, as `plan` chooses them for the first run."""
    now = datetime.now(UTC)
    if pipeline.version_kind == "time":
        return Window(high=now)
    if pipeline.version_kind == "day":
        return Window(high=day_of(now, pipeline.version_zone))
    with snapshot(settings, pipeline.name, f"reading {pipeline.source}") as connection, connection.cursor() as cursor:
        cursor.execute(highest_version(pipeline))
        ((highest,),) = cursor.fetchall()
    return Window(high=highest or 0, at=now)


def _rejects(work: StepContext, path: str | None) -> Iterator[str]:
    """The key and the reason of rejected rows; sensitive values are masks there."""
    if path is None:
        return
    with work.staging.opened(work.staging.path(path)) as file:
        for rejected in pq.ParquetFile(file).read().to_pylist():
            key = ", ".join(f"{name}={printable(rejected['row'][name])}" for name in work.pipeline.key)
            yield f"{key}: {rejected['reason']}" if key else rejected["reason"]


def _later_runs(pipeline: Pipeline, table: SourceTable) -> str:
    if pipeline.is_log:
        return "read every change from the source's write-ahead log; rows deleted at the source stay in the sink"
    if pipeline.version is None:
        return "read the whole table, and write what differs in the sink"
    indexed = any(index.columns[:1] == (pipeline.sources.get(pipeline.version),) for index in table.indexes)
    advice = "" if indexed else f"; no index begins with {pipeline.version}, so each of them reads through the table"
    return f"read what has changed, by {pipeline.version}{advice}{_comparing(pipeline)}"


def _comparing(pipeline: Pipeline) -> str:
    """How often later runs read all keys, to find deleted rows."""
    if pipeline.deletes == "keep":
        return "; rows deleted at the source stay in the sink"
    return f"; {pipeline.comparing_runs} also reads the keys of all rows, to {pipeline.deletes} those that are gone"


def _partitions(pipeline: Pipeline, rows: int, when: str) -> str:
    number = max(1, math.ceil(rows / pipeline.partition_size)) if pipeline.version or pipeline.is_log else 1
    pods = "one pod each" if pipeline.steps == "fused" else "three pods each, one after the other"
    return f"{number} {when}; on K3s {pods}"


def _time(rows: int, sample: Sample) -> str:
    if not sample.rows:
        return "nothing to measure"
    rate = sample.rows / max(sample.seconds, 0.001)
    return (
        f"{_seconds(rows / rate)} to read and check all rows in one process, by {rate:,.0f} rows/s in the sample;"
        " loading is not measured"
    )


def _columns(pipeline: Pipeline, types: SourceTypes) -> Iterator[tuple[str, ...]]:
    for name, column in pipeline.types.items():
        null = " NULL" if column.nullable else ""
        source = pipeline.sources.get(name, name)
        of = f" ({source})" if source != name else ""
        yield printable(name), printable(f"{types[name].written}{of}"), str(column), f"{column.tsql}{null}"


def _ddl(pipeline: Pipeline) -> str:
    """The statement that creates the sink table, a column a line."""
    statement = sink_sql.create_table(sink_sql.sink_table(pipeline))
    head, _, rest = statement.partition(" (")
    return f"{head} (\n  " + rest.replace(", [", ",\n  [").replace(", PRIMARY", ",\n  PRIMARY").replace(
        ", INDEX", ",\n  INDEX"
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def _seconds(seconds: float) -> str:
    return f"about {seconds:,.0f} s" if seconds >= 1 else "less than 1 s"


def _size(count: int) -> str:
    power = next((power for power in (3, 2) if count >= 1000**power), 1)
    return f"{count / 1000**power:,.1f} {('kB', 'MB', 'GB')[power - 1]}"


def _print_pairs(pairs: Mapping[str, str]) -> None:
    for name, value in pairs.items():
        print(f"{name:11} {value}")


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
