"""`make docs-recording`: docs/first-tables.md, the text of a terminal from `git clone` to rows in the sink, with times.

The source is a Postgres of this machine with the schema of tests/schemas/rental.sql; the page calls it db.example.com.
"""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from dev.sandbox.postgres import PASSWORD, Postgres, run_postgres
from dev.sandbox.stack import ROOT

PAGE = ROOT / "docs" / "first-tables.md"
SHOWN_URL = "postgresql://reader@db.example.com/shop"
TABLES = "public.film public.film_category public.film_list"
COMMANDS = [
    "make setup",
    f"make demo TABLES='{TABLES}'",
    ".venv/bin/etl new-pipeline 'public.*'",
    "cat dags/film_etl.py",
    ".venv/bin/etl preview dags/film_etl.py",
]
CORES, LOAD = len(os.sched_getaffinity(0)), os.getloadavg()[2]
_HEAD = f"""\
# From a database URL to rows in the sink

A recorded terminal, by `make docs-recording`: everything that a person types, with the time since the first command. On
a machine with {CORES} cores and a load average of {LOAD:.0f}, where the Python packages had been downloaded before; a
first download adds a minute or two.
The source is a Postgres with a rental shop of ten tables and views, `{SHOWN_URL}`; its user
`reader` may only SELECT. The sink is the [double of SQL Server](architecture.md#the-double-of-sql-server): with
`SINK_URL=mssql://…` it is a SQL Server of yours, and the tables stay there.

```
"""
_TAIL = """\
```

`make dev` now shows these DAGs in Airflow's UI. [More on the command](adding-tables.md), and
[what it takes to run on K3s](../README.md#run-it-on-k3s).
"""


def main() -> None:
    """Record, and write the page."""
    with run_postgres() as server, tempfile.TemporaryDirectory(prefix="etl-recording-") as folder:
        url = server.create_database("shop", ROOT / "tests" / "schemas" / "rental.sql")
        _create_reader(url)
        PAGE.write_text(_HEAD + _recorded(server, Path(folder)) + _TAIL)


def _create_reader(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'".encode())
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")


def _recorded(server: Postgres, folder: Path) -> str:
    place = f"{server.host}:{server.port}/shop"
    real = SHOWN_URL.replace("db.example.com/shop", f"{place}?sslmode=disable")
    environment = os.environ | {"SOURCE_URL": real, "SOURCE_PASSWORD": PASSWORD, "COLUMNS": "110"}
    for name in ("SINK_URL", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "PYTHONPATH"):
        environment.pop(name, None)
    began = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True)
    page = "$ git clone … orders-to-sql-server && cd orders-to-sql-server\n"
    page += f"$ read -rs SOURCE_PASSWORD && export SOURCE_PASSWORD SOURCE_URL='{SHOWN_URL}'\n"
    for command in COMMANDS:
        page += f"{_since(began)} $ {command}\n"
        completed = subprocess.run(
            ["bash", "-c", command], cwd=folder / "clone", env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
        )  # fmt: skip
        page += completed.stdout.replace(place, "db.example.com/shop").replace(str(folder / "clone"), ".")
        page += "\n" if command != COMMANDS[-1] else ""
    page += f"{_since(began)} $\n"
    page = re.sub(r"/\S+/etl-demo-\w+/", "…/", page)  # its temporary folder
    return re.sub(r"[ \t]+\n", "\n", page)


def _since(began: float) -> str:
    seconds = round(time.monotonic() - began)
    return f"[{seconds // 60}:{seconds % 60:02}]"


if __name__ == "__main__":
    main()
