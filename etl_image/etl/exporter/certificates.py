"""Metrics of the certificates in a folder: until when each is valid. Keys are not read."""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17
_BEFORE_VALIDITY = 3
"""Elements before the validity: serial number, algorithm, issuer (RFC 5280, 4.1)."""


class Certificates(Collector):
    """Reads the files (`NAME.crt`, PEM) at each scrape: Kubernetes replaces them with their Secrets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """The end of the first certificate in each file, which is the server's own."""
        ends = GaugeMetricFamily(
            "etl_certificate_not_after_timestamp_seconds",
            "When the certificate ends.",
            labels=("certificate",),
        )
        for file in sorted(self._folder.glob("*.crt")):
            try:
                ends.add_metric((file.stem,), not_after(file.read_text()).timestamp())
            except (OSError, ValueError) as error:
                structlog.get_logger().warning("export-metrics: no certificate", file=str(file), error=str(error))
        yield ends


def not_after(text: str) -> datetime:
    """The end of the first certificate in PEM. Raises ValueError if there is none."""
    found = _CERTIFICATE.search(text)
    if not found:
        raise ValueError("There is no certificate in it.")
    der = ssl.PEM_cert_to_DER_cert(found[0])
    try:
        at = _inside(der, _inside(der, 0))
        for _ in range(_BEFORE_VALIDITY + (der[at] == _VERSION)):
            at = _behind(der, at)
        at = _behind(der, _inside(der, at))  # behind notBefore
        when = der[_inside(der, at) : _behind(der, at)].decode("ascii")
    except IndexError:
        raise ValueError("The certificate is cut off.") from None
    if der[at] == _UTC_TIME:  # two digits for the years 1950 to 2049
        when = ("19" if when >= "50" else "20") + when
    return datetime.strptime(when, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _inside(der: bytes, at: int) -> int:
    """The offset of the content of a DER element."""
    return at + 2 + (der[at + 1] & 0x7F if der[at + 1] & 0x80 else 0)


def _behind(der: bytes, at: int) -> int:
    """The offset of the next element."""
    start = _inside(der, at)
    length = int.from_bytes(der[at + 2 : start], "big") if der[at + 1] & 0x80 else der[at + 1]
    return start + length
