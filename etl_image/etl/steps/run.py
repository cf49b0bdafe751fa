"""`etl run`: a partition from the source to the sink in one process, a few batches in memory at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from etl.steps import extract, filter  # noqa: A004  # the step's own name
from etl.steps.classify import Judge
from etl.steps.context import Work
from etl.steps.load import Kept, Loaded, deliver
from etl.steps.prefetch import read_ahead
from etl.steps.progress import Progress
from etl.storage.staging import Manifest


def run(work: Work) -> Loaded:
    """Do what the three steps do, at the same time: one reads the source, one judges, one sends to the sink.

    Repeating it changes nothing but what has changed at the source. Only rejected rows leave a file in staging.
    Raises what the steps raise, the sink unchanged.
    """
    extract.sweep(work)
    return deliver(work, _flowing(work), Progress("load", work.partition.expected_rows))


@contextmanager
def _flowing(work: Work) -> Iterator[Kept]:
    """The kept rows, while they are read and judged. The source's snapshot ends with the block."""
    progress = Progress("run", work.partition.expected_rows)
    rejects = f"{work.staging.new_folder('run')}/rejects/rows.parquet"
    with extract.reading(work) as source, Judge(work, source.schema, rejects, progress) as judge:

        def verdict() -> Manifest:
            extracted = source.manifest()
            extract.tell(work, extracted, progress)
            judged = judge.verdict(extracted)
            if judged.files or work.staging.has("run"):
                work.staging.publish("run", judged)
            filter.tell(judged, progress)
            return judged

        with read_ahead(source.batches()) as rows, read_ahead(judge.kept(rows)) as kept:
            yield Kept(judge.schema, kept, verdict)
