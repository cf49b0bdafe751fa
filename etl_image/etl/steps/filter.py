"""`etl filter`: the staged rows the predicate is true for, in the sink's types; what breaks the contract goes aside."""

import pyarrow.parquet as pq
import structlog

from etl.steps.batches import open_staged, staged_batches
from etl.steps.classify import Classifier
from etl.steps.context import StepContext
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.storage.staging import CODEC, Manifest


def filter_rows(work: StepContext) -> Manifest:
    """Judge every staged row, once: kept, dropped by the predicate, or rejected.

    Raises DataError above the tolerance; the rejects are then in staging, with the reasons.
    """
    staged = work.staging.manifest("extract", work.fingerprint)
    progress = Progress("filter", staged.extracted - staged.dropped)
    folder = work.staging.new_folder("filter")
    name = f"{folder}/rows.parquet"
    with work.staging.reading(staged.files["rows"]) as source:
        parquet = open_staged(source)
        with Classifier(work, parquet.schema_arrow, f"{folder}/rejects/rows.parquet", progress) as judge:
            with (
                prefetch(staged_batches(parquet)) as rows,
                work.staging.writing(name) as file,
                pq.ParquetWriter(file, judge.schema, **CODEC) as writer,
            ):
                for batch in judge.kept(rows):
                    writer.write_batch(batch)
                    del batch  # or it would be held while the next is judged
            verdict = judge.verdict(staged)
    manifest = verdict.model_copy(update={"files": {"rows": name, **verdict.files}})
    work.staging.publish("filter", manifest)
    tell(manifest, progress)
    return manifest


def tell(judged: Manifest, progress: Progress) -> None:
    """Log what became of the rows."""
    counts = {outcome: getattr(judged, outcome) for outcome in ("extracted", "kept", "dropped", "rejected")}
    structlog.get_logger().info("filter: done", **counts, seconds=round(progress.seconds, 1))
