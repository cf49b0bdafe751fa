"""Dashboard of ETL: outcomes of rows, and the lag of the sink."""

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders.dashboard import Dashboard

from dev.dashboards.board import Rows, choice, dashboard
from dev.dashboards.panels import NOT_ZERO, faults, number, rows, series
from dev.dashboards.promql import SHOWN, events, events_shown, highest, slowest

_PIPELINE = 'pipeline=~"$pipeline"'
_DIFFERENCE = f"max by (pipeline) (abs(etl_reconciliation_difference{{{_PIPELINE}}}))"


def sink_lag(where: str = "") -> stat.Panel:
    """Lag of the sink behind the source."""
    return number(
        "Sink behind source",
        "How long the oldest change at the source has waited, when a run last looked. Red: stale.",
        {"{{pipeline}}": highest("etl_lag_seconds", "pipeline", where)},
        unit="s",
        thresholds=[(3600, "orange"), (7200, "red")],
    )


def _a_working_second(counter: str, where: str) -> str:
    selected = ", ".join(filter(None, (where, _PIPELINE)))
    return (
        f"sum by (pipeline, step) (increase({counter}{{{selected}}}[1h]))"
        f" / (sum by (pipeline, step) (increase(etl_step_duration_seconds_sum{{{_PIPELINE}}}[1h])) > 0)"
    )


_ROWS: Rows = {
    "Now": [
        sink_lag(_PIPELINE),
        number(
            "Age of the watermark",
            "Age of the version up to which the sink is complete. It grows while the source is idle.",
            {"{{pipeline}}": highest("etl_watermark_age_seconds", "pipeline", _PIPELINE)},
            unit="s",
        ),
        faults(
            "Difference",
            "Rows that did not add up in the last run that was checked. Zero is right.",
            {"{{pipeline}}": _DIFFERENCE},
        ),
        faults(
            "Rejected",
            "Rows that broke the type rules in the time range.",
            {"rows": events_shown("etl_rows_total", f'outcome="rejected", {_PIPELINE}')},
        ),
        number(
            "Inserted and updated",
            "Rows in the time range.",
            {"rows": events_shown("etl_rows_total", f'outcome=~"inserted|updated", {_PIPELINE}')},
        ),
        number(
            "Last load",
            "Time since rows were last loaded.",
            {"{{pipeline}}": f"time() - {highest('etl_last_load_timestamp_seconds', 'pipeline', _PIPELINE)}"},
            unit="s",
        ),
    ],
    "Rows": [
        series(
            "Rows by outcome",
            "Each bar a quarter of an hour. kept + dropped + rejected = extracted.",
            {"{{outcome}}": events("etl_rows_total", "outcome", _PIPELINE)},
            bars=True,
        ),
        rows(
            "Rows in the time range",
            "Counts of each step. A retried step counts twice here, not in the sink.",
            {
                outcome: events("etl_rows_total", "pipeline", f'outcome="{outcome}", {_PIPELINE}', SHOWN)
                for outcome in ("extracted", "kept", "dropped", "rejected", "inserted", "updated", "unchanged")
            },
            span=12,
        ),
        series(
            "Rejected rows",
            "Each bar a quarter of an hour. More than the pipeline tolerates fails the run.",
            {"{{pipeline}}": events("etl_rows_total", "pipeline", f'outcome="rejected", {_PIPELINE}')},
            bars=True,
            span=8,
        ),
        series(
            "Reconciliation difference",
            "Of the last run that was checked; anything but zero failed it.",
            {"{{pipeline}}": _DIFFERENCE},
            thresholds=NOT_ZERO,
            span=8,
        ),
        series(
            "Rows that are not read",
            "Found by the last plan: their version is in the future, or infinite.",
            {"{{pipeline}}": highest("etl_unreachable_versions", "pipeline", _PIPELINE)},
            thresholds=NOT_ZERO,
            span=8,
        ),
    ],
    "Pace": [
        series(
            "Lag and watermark",
            "Lag as the last run saw it, and the age of the watermark. Above the line the sink is stale.",
            {
                "{{pipeline}} lag": highest("etl_lag_seconds", "pipeline", _PIPELINE),
                "{{pipeline}} watermark": highest("etl_watermark_age_seconds", "pipeline", _PIPELINE),
            },
            unit="s",
            thresholds=[(7200, "red")],
        ),
        series(
            "Seconds of a step",
            "95th percentile of the partitions within an hour.",
            {"{{pipeline}} {{step}}": slowest("etl_step_duration_seconds", "pipeline, step", _PIPELINE)},
            unit="s",
        ),
        series(
            "Rows a second",
            "Of the time that a step works, within an hour.",
            {"{{pipeline}} {{step}}": _a_working_second("etl_rows_total", 'outcome!="rejected"')},
        ),
        series(
            "Bytes a second",
            "Of the time that a step works, within an hour; size in memory.",
            {"{{pipeline}} {{step}}": _a_working_second("etl_bytes_total", "")},
            unit="Bps",
        ),
    ],
    "Write-ahead log": [
        series(
            "Log that the source keeps",
            'Of pipelines with capture="log", as the last plan found it. It is freed when a run has read it.',
            {"{{pipeline}}": highest("etl_log_retained_bytes", "pipeline", _PIPELINE)},
            unit="bytes",
            span=8,
        ),
        series(
            "Share of the slot's limit",
            "Of max_slot_wal_keep_size, where the slot is lost. Empty where there is no limit.",
            {"{{pipeline}}": highest("etl_log_retained_share", "pipeline", _PIPELINE)},
            unit="percentunit",
            thresholds=[(0.5, "orange"), (0.9, "red")],
            span=8,
        ),
        series(
            "Age of the position, and lost slots",
            "Since a run last looked at the log; it grows for a paused pipeline. A lost slot is 1.",
            {
                "{{pipeline}}": highest("etl_log_position_age_seconds", "pipeline", _PIPELINE),
                "{{pipeline}} lost": highest("etl_log_slot_lost", "pipeline", _PIPELINE),
            },
            unit="s",
            thresholds=[(7200, "red")],
            span=8,
        ),
    ],
    "Databases": [
        series(
            "Size of the databases",
            "Data and log of the sink, and Airflow's own database.",
            {"sink {{file}}": highest("sink_size_bytes", "file"), "metadata": highest("metadata_size_bytes")},
            unit="bytes",
            span=8,
        ),
        series(
            "Connections to the metadata database",
            "By state, and their limit.",
            {"{{state}}": "sum by (state) (metadata_connections)", "at most": highest("metadata_max_connections")},
            span=8,
        ),
        series(
            "Work in the sink",
            "Sessions and open transactions. Empty without the permission to see them.",
            {"sessions": highest("sink_sessions"), "open transactions": highest("sink_open_transactions")},
            span=8,
        ),
    ],
}


def etl() -> Dashboard:
    """Rows by outcome, lag, throughput, rejects, reconciliation, and the two databases."""
    board = dashboard("ETL", "etl", "Outcomes of rows, lag of the sink, and reconciliation.", _ROWS)
    return board.with_variable(choice("pipeline", "Pipeline", "label_values(etl_rows_total, pipeline)"))
