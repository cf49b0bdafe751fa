"""`python -m dev.query URL SQL`: the result of a query of the sink, as a table, for the double has no other client."""

import sys
from contextlib import closing

import mssql_python
from etl.config.settings import read_settings
from etl.errors import EtlError
from etl.sqlserver.connection import connect
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table


def main(url: str, query: str) -> int:
    """Print the rows of a query; returns the exit code."""
    console = Console()
    try:
        settings = read_settings().model_copy(update={"sink_url": SecretStr(url)})
        with closing(connect(settings, settings.sink(), autocommit=False)) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            table = Table(*(column[0] for column in cursor.description or ()))
            for row in cursor.fetchall():
                table.add_row(*("NULL" if value is None else str(value) for value in row))
    except (EtlError, mssql_python.Error) as error:
        console.print(f"The query failed: {error}", style="bold red", markup=False)
        return 1
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
