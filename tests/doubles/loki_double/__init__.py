"""A double of Loki's HTTP API for tests, and not Loki: the requests that this project sends, no others.

It takes pushes in JSON, and refuses what Loki refuses by the limits of the same loki.yaml, with Loki's status and
words. It answers the LogQL that task logs and dashboards use, and refuses all other in words. What it has is in one
SQLite file, so that it is there again after a kill.

Not modelled: chunks, buckets and retention; a tenant's own limits; protobuf and OTLP; streams that Loki divides when
much comes, or forgets after a while; lines of no characters, which Loki may lose.

tests/integration/test_loki_api.py and test_loki_refusals.py make the same claims of it and, where one is given, of a
real Loki.
"""


class RefusedError(Exception):
    """A rejected request; the message is the response's body."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def not_implemented(what: str, status: int = 400) -> RefusedError:
    """An error for a request that Loki may support: it must not look like an error of Loki."""
    return RefusedError(f"the double of Loki's API does not implement {what}", status)
