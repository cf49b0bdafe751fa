"""`etl export-metrics` shows the expiry of certificates, of Secrets that come and go."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from etl.exporter.certificates import Certificates, not_after
from etl.exporter.server import make_server

from tests.doubles.http_server import serving
from tests.harness.direct import DIRECT


def certificate(folder: Path, *options: str) -> str:
    command = ["openssl", "req", "-x509", "-nodes", "-keyout", str(folder / "key"), "-subj", "/CN=one", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def told_by_openssl(text: str) -> datetime:
    command = ["openssl", "x509", "-noout", "-enddate"]
    said = subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout
    return datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)


@pytest.mark.parametrize("key", [("rsa:2048",), ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")], ids=["rsa", "ec"])
@pytest.mark.parametrize("days", ["1", "825", "18250"])
def test_the_end_is_the_one_that_openssl_tells(tmp_path: Path, key: tuple[str, ...], days: str) -> None:
    """Times from 2050 on are written in another way."""
    text = certificate(tmp_path, "-days", days, "-newkey", *key)
    assert not_after(text) == told_by_openssl(text)
    # Whatever stands behind it is the certificate of who signed it.
    assert not_after(text + certificate(tmp_path, "-days", "3", "-newkey", *key)) == told_by_openssl(text)


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_none_is_no_certificate(text: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        not_after(text)


def test_metrics_follow_the_files_and_a_broken_one_hides_no_other(tmp_path: Path) -> None:
    assert [sample for metric in Certificates(tmp_path / "nowhere").collect() for sample in metric.samples] == []
    (tmp_path / "broken.crt").write_text("no certificate")
    server, _ = make_server([], 0, tmp_path)
    text = certificate(tmp_path, "-days", "30", "-newkey", "rsa:2048")
    (tmp_path / "ui-tls.crt").write_text(text)
    with serving(server) as url:
        lines = DIRECT.get(f"{url}/metrics").text.splitlines()
    told = [line for line in lines if line.startswith("etl_certificate_not_after_timestamp_seconds{")]
    assert [line.split()[0].partition("{")[2] for line in told] == ['certificate="ui-tls"}']
    assert float(told[0].split()[1]) == told_by_openssl(text).timestamp()
