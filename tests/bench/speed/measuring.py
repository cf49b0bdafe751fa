"""Runs a contender as processes, takes time, memory and CPU, and checks the rows in the sink."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.postgres import run_postgres
from dev.sandbox.process import die_with_parent
from dev.sandbox.sqlserver import SqlServerDouble
from dev.sandbox.stack import ROOT
from tests.bench.speed.contenders import Contender, Place
from tests.bench.speed.figures import Run
from tests.bench.speed.tables import Shape, SourceTable, create_source, sums_in_sink, write_arrow

LONGEST_RUN = 900.0
"""Seconds after which a run is given up."""


class FailedError(Exception):
    """A contender failed; the message says why."""


@dataclass
class Bench:
    """The two ends that all contenders share, and the tables that have been made."""

    source_url: str
    sink_url: str
    discard_url: str
    folder: Path
    sink_pid: int | None
    _tables: dict[tuple[str, int], SourceTable] = field(default_factory=dict)

    def table(self, shape: Shape, rows: int) -> SourceTable:
        """A table in the source, made when it is first asked for, with its rows in a file beside."""
        if (shape.name, rows) not in self._tables:
            made = create_source(self.source_url, shape, rows)
            write_arrow(self.source_url, made, self._arrow_file(made))
            self._tables[shape.name, rows] = made
        return self._tables[shape.name, rows]

    def forget(self) -> None:
        """Drop the tables of the source and their files."""
        with psycopg.connect(self.source_url, autocommit=True) as connection:
            for table in self._tables.values():
                connection.execute(f"DROP TABLE {table.name}".encode())
                self._arrow_file(table).unlink()
        self._tables.clear()

    def measure(self, contender: Contender, table: SourceTable) -> Run:
        """Run a contender once. Raises FailedError if it fails, or the sink does not hold the rows."""
        with self._own_folder() as folder:
            sink_url = self.discard_url if contender.discards else self.sink_url
            place = Place(table, self.source_url, sink_url, folder, self._arrow_file(table))
            contender.prepare(place)
            before = _cpu_seconds(self.sink_pid)
            took = _run(contender.commands(place), folder)
            used = _cpu_seconds(self.sink_pid) - before
            if contender.into:
                _check(place, contender.into)
            contender.clean(place)
        return Run(
            seconds=round(max(each["ended"] for each in took) - min(each["began"] for each in took), 3),
            peak_mb=round(max(each["peak_mb"] for each in took), 1),
            cpu_s=round(sum(each["cpu_s"] for each in took), 3),
            sink_cpu_s=round(used, 2) if self.sink_pid and not contender.discards else None,
        )

    def sink_version(self) -> str:
        """The sink's name and version, as it reports them."""
        if self.sink_pid:
            return "the double of SQL Server, which is not SQL Server"
        site = existing_fixture(make(ORDERS), self.source_url, self.sink_url)
        return str(site.query("SELECT @@VERSION")[0][0]).splitlines()[0]

    def _arrow_file(self, table: SourceTable) -> Path:
        return self.folder / f"{table.name}.arrows"

    @contextmanager
    def _own_folder(self) -> Iterator[Path]:
        folder = self.folder / "run"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_bench(folder: Path) -> Iterator[Bench]:
    """Start both ends, unless SOURCE_URL or SINK_URL name them, and end them with the block."""
    with ExitStack() as stack:
        source_url = os.environ.get("SOURCE_URL")
        if not source_url:
            source_url = stack.enter_context(run_postgres()).create_database("bench")
        sink_url, pid = os.environ.get("SINK_URL"), None
        if not sink_url:
            sink = stack.enter_context(SqlServerDouble(password=secrets.token_urlsafe(16)))
            sink_url, pid = sink.url, sink.pid
        nowhere = stack.enter_context(SqlServerDouble(password=secrets.token_urlsafe(16), discard=True))
        bench = Bench(source_url, sink_url, nowhere.url, folder, pid)
        stack.callback(bench.forget)
        yield bench


def in_turn(contenders: list[Contender], runs: int) -> Iterator[tuple[int, Contender]]:
    """The order of the runs: each round has every contender once, every other round the other way round."""
    for number in range(runs):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            yield number, contender


def _run(commands: list[tuple[list[str], dict[str, str]]], folder: Path) -> list[dict[str, Any]]:
    """Run commands at the same time, each under the program that measures it."""
    with ExitStack() as stack:
        processes = []
        for at, (words, environment) in enumerate(commands):
            log = stack.enter_context((folder / f"output-{at}").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.speed.peak", *words],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, preexec_fn=die_with_parent,
                start_new_session=True,
            )  # fmt: skip
            stack.callback(_end, process)
            processes.append(process)
        deadline = time.monotonic() + LONGEST_RUN
        return [_taken(process, folder / f"output-{at}", deadline) for at, process in enumerate(processes)]


def _taken(process: "subprocess.Popen[bytes]", log: Path, deadline: float) -> dict[str, Any]:
    try:
        output, _ = process.communicate(timeout=max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise FailedError(f"it took longer than {LONGEST_RUN:.0f} s") from None
    printed = output.decode(errors="replace").splitlines()
    taken: dict[str, Any] = json.loads(printed[-1])
    if taken["exit_code"]:
        lines = [line.strip() for line in [*printed[:-1], *log.read_text(errors="replace").splitlines()]]
        last = next((line for line in reversed(lines) if line), "")
        raise FailedError(f"it ended with status {taken['exit_code']}: {_told(last, log.parent)}")
    return taken


def _told(line: str, folder: Path) -> str:
    """The last words of a contender, fit to be published: no passwords, and no paths of this machine."""
    text = line.replace(str(folder), "…").replace(str(ROOT), "…")
    return re.sub(r"//[^@/\s]+@", "//", text)[:300]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a measured process with the one that measures it."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def _check(place: Place, sink: str) -> None:
    """Compare count and sums in the sink with the source's. Raises FailedError."""
    (found,) = place.site.query(sums_in_sink(place.table, sink))
    expected = [float(total) for total in place.table.total]
    if [float(total or 0) for total in found] != expected:
        raise FailedError(f"count and sums are {[str(each) for each in found]} in the sink, {expected} in the source")


def _cpu_seconds(pid: int | None) -> float:
    """Seconds of CPU that a process has used (proc(5)); 0 without a process."""
    if pid is None:
        return 0
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
