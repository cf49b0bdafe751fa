"""`etl run`: a partition from the source to the sink in one process, a few batches in memory at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from etl.steps import extract, filter  # noqa: A004  # the step's own name
from etl.steps.classify import Classifier
from etl.steps.context import StepContext
from etl.steps.load import Loaded, RowStream, deliver
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.storage.staging import Manifest


def run(work: StepContext) -> Loaded:
    """Do what the three steps do, at the same time: one reads the source, one judges, one sends to the sink.

    Repeating it changes nothing but what has changed at the source. Only rejected rows leave a file in staging.
    Raises what the steps raise, the sink unchanged.
    """
    extract.sweep(work)
    return deliver(work, _flowing(work), Progress("load", work.partition.expected_rows))


@contextmanager
def _flowing(work: StepContext) -> Iterator[RowStream]:
    """The kept rows, while they are read and judged. The source's snapshot ends with the block."""
    progress = Progress("run", work.partition.expected_rows)
    rejects = f"{work.staging.new_folder('run')}/rejects/rows.parquet"
    with extract.reading(work) as source, Classifier(work, source.schema, rejects, progress) as judge:

        def verdict() -> Manifest:
            extracted = source.manifest()
            extract.tell(work, extracted, progress)
            judged = judge.verdict(extracted)
            if judged.files or work.staging.has("run"):
                work.staging.publish("run", judged)
            filter.tell(judged, progress)
            return judged

        with prefetch(source.batches()) as rows, prefetch(judge.kept(rows)) as kept:
            yield RowStream(judge.schema, kept, verdict)
