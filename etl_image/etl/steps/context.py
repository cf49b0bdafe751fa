"""The arguments of every step: pipeline, run, partition and settings."""

from dataclasses import dataclass
from functools import cached_property

from etl.config.settings import Settings
from etl.metrics import Metrics
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline
from etl.model.window import Partition, fingerprint
from etl.storage.staging import Staging


@dataclass(frozen=True)
class StepContext:
    """One partition of one run of a pipeline, and the settings."""

    pipeline: Pipeline
    run_id: str
    partition: Partition
    settings: Settings

    @cached_property
    def staging(self) -> Staging:
        """The files of this partition."""
        return Staging(self.settings, self.pipeline.name, self.run_id, self.partition.id)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the definition of pipeline and partition."""
        return fingerprint(self.pipeline, self.partition)

    @cached_property
    def mask(self) -> Mask:
        """Formats values of the pipeline for messages."""
        return self.settings.mask(self.pipeline)

    def metrics(self, step: str) -> Metrics:
        """Metrics of a step, sent at the end of the block."""
        return Metrics(self.settings, pipeline=self.pipeline.name, step=step)

    def __str__(self) -> str:
        return f"{self.pipeline.name}, partition {self.partition.id}"
