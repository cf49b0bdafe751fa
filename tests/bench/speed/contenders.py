"""The contenders: this project, the script that it replaces, its peers, and the raw limits of both sides."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from etl.model.window import Partition
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.pipelines import window
from dev.sandbox.stack import ROOT
from tests.bench.speed.tables import SourceTable

SINK = "dbo.bench_sink"
DLT_SCHEMA = "bench_dlt"


@dataclass(frozen=True)
class Place:
    """The workplace of a contender: source, sink, the table that it moves, and a folder emptied for each run."""

    table: SourceTable
    source_url: str
    sink_url: str
    folder: Path
    arrow_file: Path

    @property
    def site(self) -> PipelineFixture:
        """The pipeline that moves the table."""
        return existing_fixture(self.table.pipeline(SINK), self.source_url, self.sink_url, self.folder)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a contender: the connections, and a separate home for its caches."""
        home = str(self.folder)
        places = dict.fromkeys(("HOME", "AIRFLOW_HOME", "DLT_DATA_DIR"), home)
        return self.site.environment(**{"PYTHONPATH": str(ROOT), **places, **more})


Command = tuple[list[str], dict[str, str]]
"""The words of a command line, and its environment."""


@dataclass(frozen=True)
class Contender:
    """One way to move the rows.

    `most`: how many rows it gets at most, where it is slow; `guess`: rows a second, narrow and wide, to tell how long
    it will take before it is known. `into`: its table in the sink, where it writes one; `makes`: who creates that.
    """

    name: str
    kind: Literal["ours", "replaced", "peer", "limit"]
    told: str
    commands: Callable[[Place], list[Command]]
    guess: dict[str, int]
    most: dict[str, int] = field(default_factory=dict)
    into: str | None = SINK
    makes: Literal["itself", "keyed", "heap"] = "itself"
    discards: bool = False
    needs: str | None = None

    def rows(self, table: str, rows: int) -> int:
        """How many rows of a group's it moves."""
        return min(rows, self.most.get(table, rows))

    def missing(self) -> str | None:
        """Why it cannot run here, if it cannot."""
        if self.needs and find_spec(self.needs) is None:
            return f"the package {self.needs} is not installed on this kind of machine"
        return None

    def prepare(self, place: Place) -> None:
        """Prepare the sink for a run."""
        self.clean(place)
        if self.makes != "itself":
            pipeline = place.site.pipeline
            (target,) = (each for each in ledger.needed_tables(pipeline) if each.name == pipeline.sink)
            place.site.execute(sink_sql.create_table(replace(target, heap=self.makes == "heap")))

    def clean(self, place: Place) -> None:
        """Remove from the sink whatever a run has left."""
        place.site.clean()
        left = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ?"
        for (name,) in place.site.query(left, DLT_SCHEMA):
            place.site.execute(f"DROP TABLE {sink_sql.quote_name(DLT_SCHEMA)}.{sink_sql.quote_name(name)}")
        place.site.execute(f"DROP SCHEMA IF EXISTS {sink_sql.quote_name(DLT_SCHEMA)}")


def etl_run(partitions: int) -> Callable[[Place], list[Command]]:
    """`etl run`, a process for each of so many ranges of keys."""

    def commands(place: Place) -> list[Command]:
        bounds = [place.table.rows * at // partitions for at in range(1, partitions)]
        lower, upper = [None, *([str(bound)] for bound in bounds)], [*([str(bound)] for bound in bounds), None]
        return [
            (
                place.site.command("run", "bench", Partition(window=window(), id=f"p{at}", lower=low, upper=high)),
                place.environment(),
            )
            for at, (low, high) in enumerate(zip(lower, upper, strict=True))
        ]

    return commands


def loader(name: str, sink: str = SINK, **environment: str) -> Callable[[Place], list[Command]]:
    """One of the programs in `loaders`."""

    def commands(place: Place) -> list[Command]:
        job = {
            "source": place.table.name,
            "sink": sink,
            "columns": place.table.columns,
            "rows": place.table.rows,
            "file": str(place.arrow_file),
        }
        words = [sys.executable, "-m", f"tests.bench.speed.loaders.{name}", json.dumps(job)]
        return [(words, place.environment(**environment))]

    return commands


def sling(place: Place) -> list[Command]:
    """The command of sling's own binary, from its wheel."""
    from sling_linux_amd64 import SLING_BIN

    sink = urlsplit(place.sink_url)
    password = quote(unquote(sink.password or ""), safe="")
    address = f"{sink.username}:{password}@{sink.hostname}:{sink.port or 1433}"
    urls = {
        "BENCH_SOURCE": place.source_url.replace("postgresql://", "postgres://") + "?sslmode=disable",
        "BENCH_SINK": f"sqlserver://{address}?database={sink.path.strip('/')}&encrypt=disable",
        "SLING_DISABLE_TELEMETRY": "TRUE",
    }
    words = [SLING_BIN, "run", "--src-conn", "BENCH_SOURCE", "--src-stream", f"public.{place.table.name}"]
    words += ["--tgt-conn", "BENCH_SINK", "--tgt-object", SINK, "--mode", "full-refresh"]
    return [(words, place.environment(**urls))]


OURS = "etl run"
NAIVE = "naive script"
READ, COPY, SEND = "ADBC read only", "bulk copy only", "bulk copy, discarded"
_BY_ROW, _BY_BATCH = {"narrow": 5_000, "wide": 2_000}, {"narrow": 30_000, "wide": 3_000}
"""How many rows those get who insert them one by one, or in batches: so many that a run takes less than a minute."""
CONTENDERS = [
    *(
        Contender(
            OURS if partitions == 1 else f"{OURS}, {partitions} partitions",
            "ours",
            "extract, filter and load, exactly once"
            + ("" if partitions == 1 else f"; {partitions} processes at the same time"),
            etl_run(partitions),
            {"narrow": 80_000, "wide": 4_000},
        )
        for partitions in (1, 2, 4)
    ),
    Contender(
        READ, "limit", "the source alone: all rows read and forgotten", loader("adbc_read"),
        {"narrow": 500_000, "wide": 20_000}, into=None,
    ),
    Contender(
        COPY, "limit", "the sink alone: rows that are ready in a file, into a table without a key", loader("bulk_copy"),
        {"narrow": 150_000, "wide": 8_000}, makes="heap",
    ),
    Contender(
        SEND, "limit", "the driver alone: the same into a double that discards the rows", loader("bulk_copy"),
        {"narrow": 300_000, "wide": 15_000}, into=None, makes="heap", discards=True,
    ),
    Contender(
        NAIVE, "replaced", "psycopg2 fetchall, then pymssql executemany", loader("naive"),
        {"narrow": 200, "wide": 200}, _BY_ROW, makes="keyed",
    ),
    Contender(
        "GenericTransfer", "peer", "Airflow's operator with its own hooks, outside of a scheduler",
        loader("generic_transfer"), {"narrow": 200, "wide": 200}, _BY_ROW, makes="keyed",
    ),
    Contender(
        "sling", "peer", "full-refresh; it inserts in batches where Microsoft's bcp is not installed", sling,
        {"narrow": 1_500, "wide": 600}, _BY_BATCH, needs="sling_linux_amd64",
    ),
    Contender(
        "dlt", "peer", "sql_table with Arrow, to its mssql destination, which inserts in batches",
        loader("dlt_load", f"{DLT_SCHEMA}.bench_sink"), {"narrow": 1_500, "wide": 300}, _BY_BATCH,
        into=f"{DLT_SCHEMA}.bench_sink", needs="dlt",
    ),
]  # fmt: skip
BY_NAME = {contender.name: contender for contender in CONTENDERS}
