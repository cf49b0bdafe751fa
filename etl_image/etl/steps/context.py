"""The arguments of every step: pipeline, run, partition and settings."""

from dataclasses import dataclass, replace
from functools import cached_property

from etl.config.settings import Settings
from etl.metrics import Metrics
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline
from etl.model.window import KEYS, LOG, Partition, fingerprint
from etl.storage.staging import Staging


@dataclass(frozen=True)
class StepContext:
    """One partition of one run of a pipeline, and the settings."""

    pipeline: Pipeline
    run_id: str
    partition: Partition
    settings: Settings
    whole: Pipeline | None = None
    """The pipeline that was declared, in the context of `reading` its keys."""

    def reading(self) -> "StepContext":
        """The same partition with the pipeline by whose columns its rows are read: of keys some, of images more."""
        if self.whole is not None or not (self.is_of_keys or self.is_of_log):
            return self
        read = self.pipeline.of_keys() if self.is_of_keys else self.pipeline.of_images()
        return replace(self, pipeline=read, whole=self.pipeline)

    @property
    def is_of_keys(self) -> bool:
        """Whether keys are compared, and no rows are loaded."""
        return self.partition.kind == KEYS

    @property
    def is_of_log(self) -> bool:
        """Whether its rows are images of the write-ahead log."""
        return self.partition.kind == LOG

    @property
    def is_counted(self) -> bool:
        """Whether metrics count its rows: not those that are read once more to compare keys."""
        return not self.is_of_keys and self.partition.keys is None

    @cached_property
    def staging(self) -> Staging:
        """The files of this partition."""
        return Staging(self.settings, self.pipeline.name, self.run_id, self.partition.id)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the definition of pipeline and partition."""
        return fingerprint(self.whole or self.pipeline, self.partition)

    @cached_property
    def mask(self) -> Mask:
        """Formats values of the pipeline for messages."""
        return self.settings.mask(self.pipeline)

    def metrics(self, step: str) -> Metrics:
        """Metrics of a step, sent at the end of the block."""
        return Metrics(self.settings, pipeline=self.pipeline.name, step=step)

    def __str__(self) -> str:
        return f"{self.pipeline.name}, partition {self.partition.id}"
