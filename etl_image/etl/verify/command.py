"""`etl verify`: compare all rows of a pipeline on both sides, and report what differs."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from etl.config.settings import Settings
from etl.errors import ConfigurationError, DataError
from etl.model.pipeline import Pipeline
from etl.model.verification import CLASSES
from etl.model.version_kind import Version
from etl.postgres.compare_sql import content_hash
from etl.postgres.connection import connect_source
from etl.sqlserver import ledger, verify_sql
from etl.sqlserver.connection import connect_sink
from etl.sqlserver.replaced import Replaced
from etl.storage.staging import Staging
from etl.verify import report
from etl.verify.compare import find_suspects
from etl.verify.confirm import confirm
from etl.verify.outcome import Outcome
from etl.verify.repair import count_repaired, repair
from etl.verify.scope import Mode, Scope
from etl.verify.sides import Sides
from etl.verify.state import read_replaced, read_scope
from etl.verify.tables import Tables


def verify(settings: Settings, pipeline: Pipeline, run_id: str, mode: Mode, *, repairs: bool = False) -> Outcome:
    """Compare all rows, and write the outcome to the ledger, to staging and to the log.

    `repairs`: bring from the source the rows that no later run would put right, and compare all rows again.

    Raises DataError if rows differ that no later run would put right, or if the counts do not add up;
    ConfigurationError or TryAgainError where a side cannot be read.
    """
    log = structlog.get_logger()

    def mend(sides: Sides, tables: Tables, found: Outcome) -> None:
        _record(settings, pipeline, found)  # it stays if the repair breaks off
        repair(sides, tables, found.source_rows)

    outcome = compare(settings, pipeline, run_id, mode, mend if repairs else None)
    if repairs and outcome.faults:
        outcome = replace(compare(settings, pipeline, run_id, mode), started_at=outcome.started_at)
    if repairs:
        outcome = replace(outcome, repaired=count_repaired(settings, pipeline, run_id))
    _record(settings, pipeline, outcome)
    staging = Staging(settings, pipeline.name, run_id, report.PARTITION)
    page = report.write_page(staging, outcome)
    for line in report.as_text(outcome):
        log.info(f"verify: {line}")
    log.info("verify: done", mode=mode, verdict=outcome.verdict, **outcome.counts(), page=page)
    if outcome.faults:
        raise DataError(
            f"{outcome.sentence()} No later run puts {outcome.faults:,} of these rows right. The report is {page};"
            " docs/verify.md says what each class means, and how --repair brings them."
        )
    return outcome


def _record(settings: Settings, pipeline: Pipeline, outcome: Outcome) -> None:
    """Write the row of the ledger; a repetition replaces it."""
    values: dict[str, str | int | datetime] = {
        "run_id": outcome.run_id,
        "mode": outcome.mode,
        "started_at": outcome.started_at,
        "ended_at": outcome.ended_at,
        **outcome.counts(),
        "verdict": outcome.verdict,
    }
    with connect_sink(settings, pipeline, f"{pipeline.name}, verify") as sink:
        if not sink.exists(ledger.VERIFICATION):
            sink.create_missing(pipeline, ledger.VERIFICATION)
        for statement in verify_sql.write_verification(pipeline, values):
            sink.execute(statement)
        sink.execute(verify_sql.prune_verifications(pipeline, outcome.ended_at - settings.audit_retention))
        sink.commit()


def compare(
    settings: Settings,
    pipeline: Pipeline,
    run_id: str,
    mode: Mode,
    mend: Callable[[Sides, Tables, Outcome], None] | None = None,
) -> Outcome:
    """Compare all rows, and mend those that no later run would put right. Raises DataError if counts do not add up."""
    if pipeline.is_log:
        raise ConfigurationError(
            f"{pipeline.name} reads the source's log, and such a pipeline cannot be verified yet: the sink has the last"
            " image that the filter kept, and not the rows as they are now."
        )
    started = datetime.now(UTC)
    with connect_sink(settings, pipeline, f"{pipeline.name}, verify") as sink:
        scope, watermark = read_scope(pipeline, mode, sink)
    before = _content(settings, pipeline)
    with (
        tempfile.TemporaryDirectory(prefix="etl-verify-") as folder,
        Tables(scope, folder, settings.mask(pipeline)) as tables,
    ):
        sides = Sides(settings, scope, run_id)
        found = find_suspects(sides, tables)
        if found.suspects and pipeline.mode == "replace":
            sides.scope = scope = replace(scope, is_settled=_is_settled(settings, pipeline, before))
        counts = confirm(sides, tables, found.suspects)
        equal = found.equal + counts.get("equal", 0)
        mask, staging = settings.mask(pipeline), Staging(settings, pipeline.name, run_id, report.PARTITION)
        examples = report.find_examples(sides, tables, mask) if found.suspects else ()
        keys_file, further = report.write_keys(sides, tables, staging, mask) if found.suspects else ("", 0)
        outcome = Outcome(
            pipeline.name, run_id, mode, started, datetime.now(UTC), equal,
            source_rows=found.equal + counts.get("at_source", 0),
            sink_rows=found.equal + counts.get("at_sink", 0),
            rejected=found.rejected,
            classes={name: counts.get(name, 0) for name in CLASSES},
            watermark=_text(watermark), low=_text(scope.low), notes=tuple(_notes(scope)),
            examples=examples, keys_file=keys_file, further_keys=further,
        )  # fmt: skip
        outcome.check()
        if mend and outcome.faults:
            mend(sides, tables, outcome)
    return outcome


def _content(settings: Settings, pipeline: Pipeline) -> tuple[Replaced | None, tuple[int, str] | None]:
    """Of mode replace: what the last run replaced the sink's rows by, and what the source has now."""
    if pipeline.mode != "replace":
        return None, None
    with connect_sink(settings, pipeline, f"{pipeline.name}, verify") as sink:
        latest = read_replaced(pipeline, sink)
    about = f"{pipeline.name}, verify"
    with connect_source(settings, pipeline, about) as connection, connection.cursor() as cursor:
        cursor.execute(content_hash(pipeline))
        rows, hashed, _ = cursor.fetchall()[0]
    return latest, (int(rows), str(hashed))


def _is_settled(settings: Settings, pipeline: Pipeline, before: tuple[Replaced | None, tuple[int, str] | None]) -> bool:
    """Whether the source was as the last run had read it, from before all rows were read until now."""
    latest, content = before
    is_read = latest is not None and content == (latest.source_rows, latest.source_hash)
    return is_read and before == _content(settings, pipeline)


def _notes(scope: Scope) -> list[str]:
    """Sentences about what was not compared."""
    notes = []
    if scope.unfilled:
        notes.append(f"Not compared, since no run has filled them yet: {', '.join(scope.unfilled)}.")
    if scope.pipeline.version and scope.low is None:
        notes.append("No run has moved the watermark yet, so every row that differs counts as pending.")
    if not scope.is_settled:
        notes.append(
            "The source has changed since the last run, which replaces all rows: rows that differ count as pending."
            " Verify it after a run."
        )
    return notes


def _text(version: Version | None) -> str:
    return "" if version is None else str(version)
