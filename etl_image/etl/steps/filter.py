"""`etl filter`: classify the staged rows; kept rows in the sink's types, rows that break the type rules as rejects."""

import pyarrow.parquet as pq
import structlog

from etl.steps.batches import open_staged, staged_batches
from etl.steps.classify import Classifier
from etl.steps.context import StepContext
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.storage.staging import CODEC, Manifest


def filter_rows(work: StepContext) -> Manifest:
    """Classify every staged row, once: kept, dropped by the filter, or rejected.

    Raises DataError for more rejects than the pipeline tolerates; they are then in staging, with the reasons.
    """
    work = work.reading()
    staged = work.staging.manifest("extract", work.fingerprint)
    progress = Progress("filter", staged.extracted - staged.dropped)
    folder = work.staging.new_folder("filter")
    name = f"{folder}/rows.parquet"
    with work.staging.reading(staged.files["rows"]) as source:
        parquet = open_staged(source)
        with Classifier(work, parquet.schema_arrow, f"{folder}/rejects/rows.parquet", progress) as classifier:
            with (
                prefetch(staged_batches(parquet)) as rows,
                work.staging.writing(name) as file,
                pq.ParquetWriter(file, classifier.schema, **CODEC) as writer,
            ):
                for batch in classifier.kept(rows):
                    writer.write_batch(batch)
                    del batch  # otherwise it is held while the next is classified
            verdict = classifier.verdict(staged)
    manifest = verdict.model_copy(update={"files": {"rows": name, **verdict.files}})
    work.staging.publish("filter", manifest)
    log_outcome(manifest, progress)
    return manifest


def log_outcome(manifest: Manifest, progress: Progress) -> None:
    """Log the counts of the outcomes."""
    counts = {outcome: getattr(manifest, outcome) for outcome in ("extracted", "kept", "dropped", "rejected")}
    structlog.get_logger().info("filter: done", **counts, seconds=round(progress.seconds, 1))
