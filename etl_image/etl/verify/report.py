"""The report of a verification: examples of each class, and the keys of all differing rows, in staging."""

from collections.abc import Mapping
from html import escape

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import printable
from etl.model.masking import Mask
from etl.model.verification import CLASSES, EXPECTED, FAULTS
from etl.storage.staging import CODEC, Staging
from etl.verify.confirm import CLASSED, parameters
from etl.verify.outcome import Example, Outcome
from etl.verify.sides import Sides, kept_rows
from etl.verify.tables import Tables

EXAMPLES = 5
"""Rows of a class that the report shows."""
MOST_KEYS = 100_000
"""Keys of differing rows that are written to staging."""
PARTITION = "verify"
"""The folder of a verification among those of the partitions of its run."""
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border:1px solid #ccc;padding:.25rem .6rem;"
    "text-align:left;vertical-align:top}td.n{text-align:right}tr.differs td{background:#fdecea}.fault{color:#b3261e}"
)
Values = dict[tuple[str, ...], dict[str, str | None]]


def find_examples(sides: Sides, tables: Tables, mask: Mask) -> tuple[Example, ...]:
    """Some rows of each class with their values on both sides, those of sensitive columns as masks."""
    pipeline = sides.pipeline
    if not pipeline.key:
        return ()
    texts = ", ".join(f"{key}::VARCHAR" for key in tables.keys)
    found = [
        (kind, key)
        for kind in CLASSES
        for key in tables.rows(f"SELECT {texts} FROM {CLASSED} WHERE class = ? ORDER BY ALL LIMIT {EXAMPLES}", kind)
    ]
    keys = [key for _, key in found]
    if not keys:
        return ()
    columns = [name for name in pipeline.columns if name not in sides.scope.unfilled]
    with sides.sink([parameters(pipeline, key) for key in keys], columns) as stream:
        at_sink: Values = tables.texts(stream)
    whole = sides.scope.without_filter
    with kept_rows(sides.settings, whole, sides.run_id, [list(key) for key in keys]) as stream:
        at_source: Values = tables.texts(stream)
    return tuple(
        Example(kind, mask.row(key), _shown(at_source.get(key), mask), _shown(at_sink.get(key), mask))
        for kind, key in found
    )


def _shown(values: Mapping[str, str | None] | None, mask: Mask) -> dict[str, str | None] | None:
    if values is None:
        return None
    return {name: None if value is None else mask.value(name, value) for name, value in values.items()}


def write_keys(sides: Sides, tables: Tables, staging: Staging, mask: Mask) -> tuple[str, int]:
    """Write the class and key of differing rows to staging; returns the path, and how many more there are."""
    pipeline = sides.pipeline
    is_listed = f"FROM {CLASSED} WHERE class IN ({', '.join(repr(name) for name in CLASSES)})"
    total = int(tables.value(f"SELECT count(*) {is_listed}"))
    if not total:
        return "", 0
    values = ", ".join(f"{key}::VARCHAR" for key in tables.keys)
    rows = tables.rows(f"SELECT class, {values} {is_listed} ORDER BY ALL LIMIT {MOST_KEYS}")
    names = pipeline.key or ["hash of the row"]
    columns = [[row[place] for row in rows] for place in range(len(names) + 1)]
    for place, name in enumerate(pipeline.key, 1):
        if mask.covers(name):
            columns[place] = [mask.masked(name, value) for value in columns[place]]
    # The key is nested, since a column of it may be called class too.
    key = pa.table(columns[1:], names=names).to_struct_array()
    file = f"{staging.new_folder('run')}/keys.parquet"
    with staging.writing(file) as opened:
        pq.write_table(pa.table({"class": columns[0], "key": key}), opened, **CODEC)
    return staging.path(file), total - len(rows)


def as_text(outcome: Outcome) -> list[str]:
    """The report as lines of a log."""
    lines = [outcome.sentence(), *outcome.notes]
    for name in CLASSES:
        count = outcome.classes.get(name, 0)
        if not count:
            continue
        lines.append(f"{count:,} {name}: {(FAULTS | EXPECTED)[name]}.")
        shown = [each for each in outcome.examples if each.kind == name]
        lines += [f"  {each.key}{_differences(each)}" for each in shown]
        if shown and count > len(shown):
            lines.append(f"  … and {count - len(shown):,} more")
    if outcome.keys_file:
        more = f", and {outcome.further_keys:,} more that it has not" if outcome.further_keys else ""
        lines.append(f"The keys are in {outcome.keys_file}{more}.")
    return lines


def _differences(example: Example) -> str:
    """The columns in which both sides differ, with both values."""
    if example.source is None or example.sink is None:
        return ""
    pairs = (
        f"{name}: {_quoted(example.source.get(name))}, in the sink {_quoted(value)}"
        for name, value in example.sink.items()
        if value != example.source.get(name)
    )
    return "".join(f"; {pair}" for pair in pairs)


def _quoted(value: str | None) -> str:
    return "NULL" if value is None else f"'{printable(value)}'"


def as_html(outcome: Outcome) -> str:
    """The report as a page that needs no other file."""
    title = escape(f"Verification of {outcome.pipeline}")
    facts = {
        "verdict": outcome.verdict,
        "compared": "key and version" if outcome.mode == "quick" else "all columns",
        "run": outcome.run_id,
        "started": f"{outcome.started_at:%Y-%m-%d %H:%M:%S} UTC",
        "ended": f"{outcome.ended_at:%Y-%m-%d %H:%M:%S} UTC",
        "watermark": outcome.watermark or "none",
        "due up to": outcome.low or "-",
        "rows at the source": f"{outcome.source_rows:,}",
        "rows in the sink": f"{outcome.sink_rows:,}",
        "equal": f"{outcome.equal:,}",
        "rejected by the type rules": f"{outcome.rejected:,}",
        "repaired": f"{outcome.repaired:,}",
        "all differing keys": f"{outcome.keys_file}" if outcome.keys_file else "-",
    }
    listed = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    notes = "".join(f"<p>{escape(note)}</p>" for note in outcome.notes)
    parts = "".join(_section(outcome, name) for name in CLASSES if outcome.classes.get(name, 0))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><p>{escape(outcome.sentence())}</p>{notes}"
        f"<table>{listed}</table>{parts}</body></html>\n"
    )


def _section(outcome: Outcome, name: str) -> str:
    """The part of the page about a class."""
    shown = [each for each in outcome.examples if each.kind == name]
    count = outcome.classes[name]
    of_class = ' class="fault"' if name in FAULTS else ""
    more = f"<p>… and {count - len(shown):,} more</p>" if shown and count > len(shown) else ""
    rows = "".join(_example(each) for each in shown)
    return f"<h2{of_class}>{count:,} {name}</h2><p>{escape((FAULTS | EXPECTED)[name])}.</p>{rows}{more}"


def _example(example: Example) -> str:
    names = list((example.source or example.sink or {}).keys())
    lines = []
    for name in names:
        values = [None if side is None else _quoted(side.get(name)) for side in (example.source, example.sink)]
        differs = ' class="differs"' if None not in values and values[0] != values[1] else ""
        cells = "".join(f"<td>{escape(value) if value is not None else '-'}</td>" for value in values)
        lines.append(f"<tr{differs}><th>{escape(name)}</th>{cells}</tr>")
    head = "<tr><th></th><th>source</th><th>sink</th></tr>"
    return f"<h3>{escape(example.key)}</h3><table>{head}{''.join(lines)}</table>"


def write_page(staging: Staging, outcome: Outcome) -> str:
    """Write the page to staging; returns its path."""
    file = f"{staging.new_folder('run')}/report.html"
    with staging.writing(file) as opened:
        opened.write(as_html(outcome).encode())
    return staging.path(file)
