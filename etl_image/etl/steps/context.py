"""What every step is given: the pipeline, and which partition of which run to work on."""

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
    """One partition of one run of a pipeline, and the settings to do it with."""

    pipeline: Pipeline
    run_id: str
    partition: Partition
    settings: Settings

    @cached_property
    def staging(self) -> Staging:
        """Where this partition's files are."""
        return Staging(self.settings, self.pipeline.name, self.run_id, self.partition.id)

    @cached_property
    def fingerprint(self) -> str:
        """Tells one definition of the pipeline and partition from another."""
        return fingerprint(self.pipeline, self.partition)

    @cached_property
    def mask(self) -> Mask:
        """How messages show values of the pipeline."""
        return self.settings.mask(self.pipeline)

    def metrics(self, step: str) -> Metrics:
        """What a step counts, sent at the end of its block."""
        return Metrics(self.settings, pipeline=self.pipeline.name, step=step)

    def __str__(self) -> str:
        return f"{self.pipeline.name}, partition {self.partition.id}"
