"""The rows of both sides as tables of DuckDB: sums by bucket of all rows, then key, version and hash of some."""

from typing import Any, Literal, Self

import duckdb

from etl.errors import TryAgainError
from etl.model.masking import Mask
from etl.verify.scope import Scope
from etl.verify.sides import Stream
from etl.verify.values import comparable, decimal_types, key_bucket

Side = Literal["source", "sink"]
_MEMORY = "160MB"
"""Beyond it DuckDB writes to files: sums of both sides take about 20 MB, a million rows of pass two 80 MB."""


class Tables:
    """One database in memory for a verification; it ends with the block.

    The key of a row has the names k0, k1 and so on. Of a pipeline without a key it is the hash of the row, whose number
    is counted.
    """

    def __init__(self, scope: Scope, folder: str, mask: Mask) -> None:
        self.scope = scope
        self._mask = mask
        self.keys = [f"k{place}" for place in range(max(len(scope.pipeline.key), 1))]
        self._decimals: dict[str, str] = {}
        config: dict[str, Any] = {"threads": 2, "memory_limit": _MEMORY, "temp_directory": folder}
        config["preserve_insertion_order"] = False
        self._engine = duckdb.connect(config=config)
        self._engine.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._engine.close()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement."""
        return self._engine.execute(query, list(parameters)).fetchall()

    def value(self, query: str) -> Any:
        """Run a query of one row and return its first column."""
        return self.rows(query)[0][0]

    def widen(self, sink: Stream) -> None:
        """Compare decimals from now on in the types of the sink's columns; it must be called before rows are read."""
        self._decimals = decimal_types(self.scope.pipeline, sink.schema, self.scope.columns)

    def sum_up(self, side: Side, stream: Stream) -> None:
        """Read all rows of a side into the table SIDE_sums: bucket, rows, and the sum of their hashes."""
        self._read(
            stream,
            f"CREATE OR REPLACE TABLE {side}_sums AS SELECT {key_bucket(self.keys)} AS bucket, count(*) AS n,"
            f" sum(h) AS total FROM ({self._selected(stream)}) GROUP BY bucket",
        )

    def keep(self, stream: Stream, table: str, condition: str) -> None:
        """Add rows for which a condition holds to a table, made by `create_rows`; returns how many."""
        selected = f"SELECT {', '.join(self.keys)}, v, h FROM ({self._selected(stream)}) AS r WHERE {condition}"
        if not self.scope.pipeline.key:
            selected = f"SELECT k0, NULL AS v, k0 AS h, count(*) AS n FROM ({selected}) GROUP BY k0"
        else:
            selected = f"SELECT *, 1 AS n FROM ({selected})"
        self._read(stream, f"INSERT INTO {table} {selected}")

    def create_rows(self, table: str, stream: Stream) -> None:
        """Create an empty table of rows: key, version v, hash h, and their number n."""
        selected = f"SELECT {', '.join(self.keys)}, v, h, 1::BIGINT AS n FROM ({self._selected(stream)}) LIMIT 0"
        self._read(Stream(stream.schema, iter(())), f"CREATE OR REPLACE TABLE {table} AS {selected}")

    def texts(self, stream: Stream) -> dict[tuple[str, ...], dict[str, str | None]]:
        """The values of a few rows as text, by their key."""
        pipeline, names = self.scope.pipeline, stream.schema.names
        values = [
            f"{comparable(f'c{place}', pipeline.types[name], stream.schema.field(place).type)}::VARCHAR AS c{place}"
            for place, name in enumerate(names)
        ]
        self._read(stream, f"CREATE OR REPLACE TABLE texts AS SELECT {', '.join(values)} FROM rows_of_stream")
        rows = [dict(zip(names, row, strict=True)) for row in self.rows("FROM texts")]
        return {tuple(row[name] for name in pipeline.key): row for row in rows}

    def _selected(self, stream: Stream) -> str:
        """A query of the stream's rows: key, version and hash, of as many of the columns as it has."""
        pipeline, names = self.scope.pipeline, stream.schema.names
        columns = [name for name in self.scope.columns if name in names]
        values = {
            name: comparable(
                f"c{place}", pipeline.types[name], stream.schema.field(place).type, self._decimals.get(name, "")
            )
            for place, name in enumerate(names)
            if name in columns
        }
        hashed = f"hash({', '.join(values[name] for name in columns)})"
        keys = [values[name] for name in pipeline.key] or [hashed]
        version = values.get(pipeline.version or "", "NULL::BIGINT")
        listed = ", ".join(f"{value} AS {name}" for name, value in zip(self.keys, keys, strict=True))
        return f"SELECT {listed}, {version} AS v, {hashed} AS h FROM rows_of_stream"

    def _read(self, stream: Stream, query: str) -> None:
        """Run a query over the rows of a stream. Raises the error that ended the stream."""
        # In a connection of its own, so that two sides can be read at the same time.
        engine = self._engine.cursor()
        engine.execute("SET TimeZone = 'UTC'")
        try:
            engine.register("rows_of_stream", stream.reader())
            engine.execute(query)
        except duckdb.Error as error:
            if stream.failures:
                raise stream.failures[0] from None
            words = self._mask.words(str(error).splitlines()[0])
            raise TryAgainError(f"{self.scope.pipeline.name}: the rows cannot be compared: {words}") from error
        finally:
            engine.close()
