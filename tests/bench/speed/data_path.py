"""The document's section on the data path, from the figures of `make bench`."""

from statistics import median

from tests.bench.speed.claims import claims
from tests.bench.speed.contenders import CONTENDERS, OURS, Contender
from tests.bench.speed.document import Section, Table
from tests.bench.speed.figures import Figures, Series, least_ratio, number, speed_ratio, spread, told
from tests.bench.speed.plan import rows_told
from tests.bench.speed.tables import SHAPES

PLOT = "rows.svg"
_COLUMNS = ["", "rows moved", "rows/s", "least to greatest", "`etl run` is", "at least", "CPU", "sink's", "peak MB"]


def data_path(figures: Figures) -> Section:
    """The section."""
    runs = [len(series.runs) for series in figures.series]
    most = f"{min(runs)} to {max(runs)}" if min(runs) != max(runs) else str(max(runs))
    versions = ", ".join(f"{name} {version}" for name, version in figures.versions.items())
    return Section(
        title="From Postgres to SQL Server",
        text=[
            "Every contender moves the same table from the same Postgres into the same sink, in its own processes,"
            f" one contender after the other: {most} runs each, in alternating order. After each run the row count and"
            " sums in the sink are compared with the source. Times are of the whole process, from start to exit.",
            f"Machine: {figures.machine}. Sink: {figures.sink}. {versions}.",
        ],
        claims=claims(figures),
        plot=PLOT,
        tables=[_table(figures, table, rows) for table, rows in figures.groups()],
        notes=[*_notes(figures), *(f"{name}: {_last_words(why)}" for name, why in sorted(figures.absent.items()))],
    )


def _last_words(why: str) -> str:
    return f"could not be run here, because {why.rstrip('.')}."


def _table(figures: Figures, table: str, rows: int) -> Table:
    found = [(each, figures.find(each.name, table, rows)) for each in CONTENDERS]
    ours = figures.find(OURS, table, rows)
    title = f"**{rows:,} rows, {table}** ({SHAPES[table].told}):"
    return Table(title=title, columns=_COLUMNS, rows=[_row(each, series, ours) for each, series in found if series])


def _row(contender: Contender, series: Series, ours: Series | None) -> list[str]:
    rates = spread(series.rates)
    ratios = ["", ""]
    if ours and series is not ours:
        ratios[0] = told(speed_ratio(ours, series))
        if contender.kind in ("replaced", "peer"):
            ratios[1] = number(least_ratio(ours, series).median)
    return [
        contender.name,
        rows_told(series) or "all",
        f"{rates.median:,.0f}",
        f"{rates.low:,.0f} to {rates.high:,.0f}",
        *ratios,
        number(series.cpu_of_a_million()),
        _sinks_cpu(series),
        f"{median(run.peak_mb for run in series.runs):.0f}",
    ]


def _sinks_cpu(series: Series) -> str:
    used = [run.sink_cpu_s for run in series.runs if run.sink_cpu_s is not None]
    return number(median(used) / series.moved * 1e6) if used else ""


def _notes(figures: Figures) -> list[str]:
    notes = [
        "`etl run is`: how many times as fast as this contender, comparing runs of the same round: median, least and"
        " greatest.",
        "`CPU`: seconds per million rows, of all processes of the contender; `sink's`: of the sink meanwhile. `peak"
        " MB`: of the largest process.",
        "A slow contender moves fewer rows, since its rate does not depend on their number; its start-up time,"
        " measured with a single row, is then subtracted. That of `etl run` never is.",
    ]
    if any(run.sink_cpu_s is not None for series in figures.series for run in series.runs):
        notes.append(
            "`at least`: a lower bound of that ratio, as if the double of SQL Server had used no CPU for the contender."
            " The double takes milliseconds for an INSERT, a real server less, so contenders that send INSERTs look"
            " slower than they are; the true ratio lies between the two. A claim that holds by the clock but not by"
            " this bound is marked `on the double`."
        )
    measured = {series.contender for series in figures.series}
    return notes + [f"{each.name}: {each.told}." for each in CONTENDERS if each.name in measured]
