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
            "Every contender moves the same table from the same Postgres into the same sink, as processes of its own,"
            f" in turn: {most} runs each, forwards and backwards. After each run the count and sums in the sink are"
            " compared with the source. A time is that of the whole process, from its start to its end.",
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
        "`etl run is`: how many times as fast as the contender of that line, each run compared with that of the same"
        " round: median, least and greatest.",
        "`CPU`: seconds for a million rows, of all of the contender's processes, and those that the sink used"
        " meanwhile. `peak MB`: of its largest process.",
        "Who is slow moves fewer rows, as its rate is flat; its start, measured with a single row, is then taken off."
        " Ours is never.",
    ]
    if any(run.sink_cpu_s is not None for series in figures.series for run in series.runs):
        notes.append(
            "`at least`: the ratio if the stand-in had used no CPU at all for the other, and all that it did use for"
            " ours. It takes milliseconds for a single INSERT, for which a server takes less, so that those who"
            " send rows by INSERT look slower than they are; the truth lies between this and the ratio before it."
            " A claim that holds by the clock but not by this bound is said to hold `on the stand-in`."
        )
    measured = {series.contender for series in figures.series}
    return notes + [f"{each.name}: {each.told}." for each in CONTENDERS if each.name in measured]
