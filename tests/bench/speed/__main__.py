"""`make bench`: measure all contenders in turn, and write docs/benchmarks.md, its figures and its plot."""

import argparse
import os
import platform
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from tests.bench.speed.contenders import BY_NAME, Contender
from tests.bench.speed.data_path import PLOT
from tests.bench.speed.figures import Figures, Run, Series
from tests.bench.speed.measuring import Bench, FailedError, in_turn, run_bench
from tests.bench.speed.plan import Group, Remaining, groups, in_minutes
from tests.bench.speed.report import DOCUMENT, FIGURES, FOLDER, write_document

PACKAGES = (
    "adbc-driver-postgresql", "mssql-python", "pymssql", "apache-airflow", "sling-linux-amd64", "dlt", "duckdb",
)  # fmt: skip


class Suite:
    """A benchmark: the measurements so far, the remaining ones, and those that cannot run."""

    def __init__(self, bench: Bench, plan: list[Group], runs: int, console: Console) -> None:
        self._bench = bench
        self._runs = runs
        self._console = console
        self._plan = plan
        self._remaining = Remaining(
            [(group, each) for group in plan for each in group.contenders for _ in range(runs + bool(each.most))]
        )
        self._absent: set[tuple[str, str]] = set()
        self.why_absent: dict[str, str] = {}
        self.series: list[Series] = []

    def run(self) -> None:
        """Measure everything, group by group."""
        for group in self._plan:
            for contender in group.contenders:
                if (why := contender.missing()) is not None and not self._is_absent(group, contender):
                    self._give_up(group, contender, why)
            self._group(group)
            self._bench.forget()

    def _group(self, group: Group) -> None:
        self._console.print(f"Making {group.rows:,} rows, {group.shape.name} …")
        present = [each for each in group.contenders if not self._is_absent(group, each)]
        self._bench.table(group.shape, group.rows)
        starts = {each.name: self._measure(group, each, 1, "start") for each in present if self._is_cut(group, each)}
        runs: dict[str, list[Run]] = {each.name: [] for each in present}
        for number, contender in in_turn(present, self._runs):
            run = self._measure(group, contender, self._moved(group, contender), f"run {number + 1} of {self._runs}")
            if run:
                runs[contender.name].append(run)
        self.series += [
            Series(
                contender=each.name, table=group.shape.name, rows=group.rows, moved=self._moved(group, each),
                runs=runs[each.name], start=starts.get(each.name),
            )
            for each in present
            if runs[each.name] and not self._is_absent(group, each)
        ]  # fmt: skip

    def _measure(self, group: Group, contender: Contender, rows: int, told: str) -> Run | None:
        if self._is_absent(group, contender):
            return None
        table = self._bench.table(group.shape, rows)
        try:
            run = self._bench.measure(contender, table)
        except FailedError as error:
            self._give_up(group, contender, str(error))
            return None
        self._remaining.done(group, contender, run.seconds)
        left = in_minutes(self._remaining.seconds())
        self._console.print(
            f"{group.shape.name} {rows:>10,}  {contender.name:<22} {told:<11} {run.seconds:7.1f} s"
            f" {rows / run.seconds:>11,.0f} rows/s   {left} left",
            highlight=False,
            soft_wrap=True,
        )
        return run

    def _is_absent(self, group: Group, contender: Contender) -> bool:
        return (contender.name, group.shape.name) in self._absent

    def _give_up(self, group: Group, contender: Contender, why: str) -> None:
        table = group.shape.name
        self._console.print(f"{contender.name} cannot be measured, {table}: {why}", style="yellow", markup=False)
        self._absent.add((contender.name, table))
        self.why_absent[f"{contender.name}, {table}"] = why
        for each in self._plan:
            if each.shape is group.shape:
                self._remaining.give_up(each, contender)

    @staticmethod
    def _moved(group: Group, contender: Contender) -> int:
        return contender.rows(group.shape.name, group.rows)

    def _is_cut(self, group: Group, contender: Contender) -> bool:
        cut = self._moved(group, contender) < group.rows
        if not cut and contender.most:
            self._remaining.waiting.remove((group, contender))
        return cut


def machine() -> str:
    """The machine in neutral words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} shared cores, {memory:.0f} GiB, {platform.machine()}"


def versions() -> dict[str, str]:
    """The versions of the contenders."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Measure and write."""
    options = _options()
    console = Console()
    if not options.report_only:
        options.output.mkdir(parents=True, exist_ok=True)
        _measure(options, console)
    write_document(options.output, options.document)
    console.print(f"Wrote {options.document}.", highlight=False)


def _measure(options: argparse.Namespace, console: Console) -> None:
    from tests.bench.speed.plot import draw  # its packages are in the dependency group `bench` alone

    began = time.monotonic()
    plan = groups(options.narrow, options.wide, options.contender, full=options.full)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, run_bench(Path(folder)) as bench:
        suite = Suite(bench, plan, options.runs, console)
        suite.run()
        sink = bench.sink_version()
    figures = Figures(
        machine=machine(), sink=sink, versions=versions(), series=suite.series, absent=suite.why_absent
    )  # fmt: skip
    if options.add:
        figures = figures.with_earlier(Figures.model_validate_json((options.output / FIGURES).read_text()))
    (options.output / FIGURES).write_text(figures.model_dump_json(indent=1, exclude_none=True) + "\n")
    draw(figures, options.output / PLOT)
    console.print(f"Measured in {in_minutes(time.monotonic() - began)}.", highlight=False)


def _sizes(text: str) -> list[int]:
    return [int(word.replace("_", "")) for word in text.split(",") if word]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small tables and few runs: to see that all works")
    parser.add_argument("--full", action="store_true", help="all contenders at 10 million rows, too")
    parser.add_argument("--narrow", type=_sizes, help="sizes of the narrow table, such as 100_000,1_000_000")
    parser.add_argument("--wide", type=_sizes, help="sizes of the wide table")
    parser.add_argument("--runs", type=int, help="runs of each contender")
    parser.add_argument("--contender", action="append", default=[], choices=list(BY_NAME), help="only these")
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder of figures and plot")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="the document")
    parser.add_argument("--add", action="store_true", help="keep the figures that are there of other tables and sizes")
    parser.add_argument("--report-only", action="store_true", help="write the document from the figures that are there")
    options = parser.parse_args()
    options.runs = options.runs or (2 if options.quick else 5)
    if options.narrow is None:
        options.narrow = [20_000, 100_000] if options.quick else [100_000, 1_000_000, 10_000_000]
    if options.wide is None:
        options.wide = [1_000] if options.quick else [10_000, 50_000]
    return options


if __name__ == "__main__":
    main()
