"""`etl run`: extract, filter and load a partition in one process, with a few batches in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from etl.steps import extract, filter  # noqa: A004  # the step's own name
from etl.steps.classify import Classifier
from etl.steps.context import StepContext
from etl.steps.load import RowStream, deliver
from etl.steps.merge import Loaded
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.storage.staging import Manifest


def run(work: StepContext) -> Loaded:
    """Run the three steps at the same time: reading the source, classifying, and sending to the sink.

    A repetition reads the source again. Only rejected rows are written to staging.
    Raises what the steps raise, the sink unchanged.
    """
    extract.sweep(work)
    return deliver(work, _flowing(work.reading()), Progress("load", work.partition.expected_rows))


@contextmanager
def _flowing(work: StepContext) -> Iterator[RowStream]:
    """The kept rows, as they are read and classified. The source's snapshot ends with the block."""
    progress = Progress("run", work.partition.expected_rows)
    rejects = f"{work.staging.new_folder('run')}/rejects/rows.parquet"
    with extract.reading(work) as source, Classifier(work, source.schema, rejects, progress) as classifier:

        def verdict() -> Manifest:
            extracted = source.manifest()
            extract.log_extracted(work, extracted, progress)
            manifest = classifier.verdict(extracted)
            if manifest.files or work.staging.has("run"):
                work.staging.publish("run", manifest)
            filter.log_outcome(manifest, progress)
            return manifest

        with prefetch(source.batches()) as rows, prefetch(classifier.kept(rows)) as kept:
            yield RowStream(classifier.schema, kept, verdict)
