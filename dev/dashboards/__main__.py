"""Writes all dashboards as JSON to the folder that Grafana loads: `python -m dev.dashboards`."""

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dev.dashboards.dags import dags
from dev.dashboards.etl import etl
from dev.dashboards.logs import logs
from dev.dashboards.overview import overview
from dev.dashboards.pods import pods

FOLDER = Path(__file__).resolve().parents[2] / "k8s/base/observability/grafana/dashboards"


def rendered() -> dict[str, str]:
    """Content of each dashboard by file name."""
    boards = [make().build() for make in (overview, dags, etl, pods, logs)]
    for board in boards:
        for number, panel in enumerate(board.panels or [], start=1):
            panel.id_val = number
    encoder = JSONEncoder(indent=2, ensure_ascii=False, sort_keys=True)
    return {f"{board.uid}.json": encoder.encode(board) + "\n" for board in boards}


def main() -> None:
    """Write changed files, and remove those of former dashboards."""
    files = rendered()
    for left_over in {path.name for path in FOLDER.glob("*.json")} - set(files):
        (FOLDER / left_over).unlink()
    for name, content in files.items():
        (FOLDER / name).write_text(content)


if __name__ == "__main__":
    main()
