"""Names of pipelines and sink tables: those of the source tables, in the letters that each may have."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count

from etl.model.names import as_sql_server_sees
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName

_LONGEST = 48
_ROOM = 4  # for a number
_COLUMN = 63  # bytes of a column's name


class Names:
    """Chooses a name for each table that no other has, and a table in the sink that no other pipeline loads."""

    def __init__(self, taken: Mapping[str, Pipeline | None], sink_schema: str | None = None) -> None:
        """`taken`: existing pipelines by name. `sink_schema`: instead of dbo for public, and of the source's."""
        self._taken = set(taken)
        self._known = {str(each.source): (name, each.sink) for name, each in taken.items() if each}
        self._sinks = {_folded(sink) for _, sink in self._known.values()}
        self._schema = sink_schema

    def has(self, table: TableName) -> bool:
        """Whether a pipeline reads this table already."""
        return str(table) in self._known

    def of(self, table: TableName) -> tuple[str, TableName]:
        """The name of a table's pipeline, and its table in the sink."""
        if self.has(table):
            return self._known[str(table)]
        name = next(name for name in _candidates(table) if name not in self._taken)
        schema = self._schema or ("dbo" if table.schema_name == "public" else table.schema_name)
        sinks = (TableName(schema_name=schema, table=each) for each in chain([table.table], _candidates(table)))
        return name, next(sink for sink in sinks if _folded(sink) not in self._sinks)

    def take(self, table: TableName) -> None:
        """Give a table its names: no other table gets them."""
        name, sink = self._known[str(table)] = self.of(table)
        self._taken.add(name)
        self._sinks.add(_folded(sink))


def column_names(names: Sequence[str]) -> dict[str, str]:
    """The names in the sink of the columns of a table; others than at the source where SQL Server knows no difference.

    Of such columns the first keeps its name, and the others get a number that no column has.
    """
    found: dict[str, str] = {}
    taken = {as_sql_server_sees(name): name for name in reversed(names)}
    for name in names:
        short = name.encode()[: _COLUMN - _ROOM].decode(errors="ignore")
        candidates = chain([name], (f"{short}_{number}" for number in count(2)))
        found[name] = next(each for each in candidates if taken.setdefault(as_sql_server_sees(each), name) == name)
    return found


def _folded(table: TableName) -> tuple[str, ...]:
    """Names that SQL Server does not tell apart become one."""
    return tuple(map(as_sql_server_sees, (table.schema_name, table.table)))


def _candidates(table: TableName) -> Iterator[str]:
    yield _plain(table.table)
    whole = _plain(f"{table.schema_name}_{table.table}")
    yield whole
    number = 2
    while True:
        yield f"{whole[: _LONGEST - _ROOM]}_{number}"
        number += 1


def _plain(text: str) -> str:
    """A text in the letters of a pipeline's name."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", ascii_text).strip("_")
    return (name if re.match(r"[a-z]", name) else f"t_{name}".rstrip("_"))[:_LONGEST].rstrip("_")
