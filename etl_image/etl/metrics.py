"""Metrics over StatsD, with tags in the InfluxDB form that Airflow also uses here."""

import statsd
import structlog

from etl.settings import Settings


class Metrics:
    """Sends to a StatsD server over UDP, or nowhere where none is set: metrics never hold up a step."""

    def __init__(self, settings: Settings, **tags: str) -> None:
        self._tags = "".join(f",{name}={_tag(value)}" for name, value in tags.items())
        self._client = None
        if settings.statsd_host:
            try:
                self._client = statsd.StatsClient(settings.statsd_host, settings.statsd_port)
            except OSError as error:  # the name is looked up here
                where = f"STATSD_HOST ({settings.statsd_host})"
                structlog.get_logger().warning(f"No metrics are sent: {where} cannot be reached: {error}")

    def rows(self, outcome: str, count: int) -> None:
        """Count rows by outcome: extracted, kept, dropped, rejected, inserted, updated, unchanged."""
        self._count(f"etl.rows{self._tags},outcome={outcome}", count)

    def bytes(self, count: int) -> None:
        """Count bytes written by the step."""
        self._count(f"etl.bytes{self._tags}", count)

    def seconds(self, seconds: float) -> None:
        """Time one step, in seconds."""
        if self._client:
            self._client.timing(f"etl.step_duration{self._tags}", seconds * 1000)

    def _count(self, name: str, count: int) -> None:
        if self._client:
            self._client.incr(name, count)


def _tag(value: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in value)
