"""Servers outside the cluster, run on this machine: a SQL Server, a bucket, a git server."""

import ipaddress
import logging
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from dev.sandbox.process import die_with_parent, free_port
from dev.sandbox.sqlserver import SqlServerDouble
from tests.cluster.certificates import Authority

SINK_NAME = "sql.example.com"
"""In the certificate of the sink; pods reach it by address."""
TEST_IMAGES = {f"docker.io/{name}": "localhost/e2e-postgres" for name in ("library/postgres", "edoburu/pgbouncer")}
KEYS = {"AWS_ACCESS_KEY_ID": "key-of-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-tests"}
"""Any are good for that server."""
KEYS_OF_CLIENT = {name.lower(): value for name, value in KEYS.items()}


@dataclass(frozen=True)
class OutsideSink:
    """A running SQL Server: its address for pods, and its administrator."""

    address: str
    """host:port/database?options"""
    admin: str
    admin_password: str = field(repr=False)

    @classmethod
    def of(cls, url: str, this_machine: str) -> "OutsideSink":
        """Parse an administrator's URL; loopback is `this_machine` to pods."""
        parts = urlsplit(url)
        host, options = parts.hostname or "", dict(parse_qsl(parts.query))
        if host == "localhost" or (host[:1].isdigit() and ipaddress.ip_address(host).is_loopback):
            host = this_machine
            # As on loopback, where TLS is off by default.
            options = {"encrypt": "no"} | options
        options.setdefault("encrypt", "yes")
        address = f"{host}:{parts.port or 1433}{parts.path}?{urlencode(options)}"
        return cls(address, unquote(parts.username or ""), unquote(parts.password or ""))

    @property
    def port(self) -> int:
        """The server's port."""
        return urlsplit(f"//{self.address}").port or 1433

    def url(self, user: str, password: str = "") -> str:
        """The URL for a login. With a password it is for the tests, which do not verify certificates."""
        if not password:
            return f"mssql://{user}@{self.address}"
        return f"mssql://{user}:{password}@{self.address}&trustservercertificate=yes"


@contextmanager
def serve_sink(address: str, authority: Authority) -> Iterator[OutsideSink]:
    """An empty double of SQL Server with a certificate of that authority, until the block ends."""
    files = authority.certificate_of("sink"), authority.key_of("sink")
    with SqlServerDouble(password=f"Aa1-{secrets.token_urlsafe(16)}", host=address, certificate=files) as server:
        yield OutsideSink.of(f"{server.url}?hostnameincertificate={SINK_NAME}", address)


def sink_authority(folder: Path) -> Authority:
    """Of the company that has this SQL Server."""
    return Authority.of_server(folder, "sink", SINK_NAME)


@contextmanager
def serve_bucket(address: str, bucket: str) -> Iterator[str]:
    """An S3 server with one empty bucket, until the block ends; yields its URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it says a line for each request
    server = ThreadedMotoServer(ip_address=address, port=0)
    server.start()
    try:
        _, port = server.get_host_and_port()
        url = f"http://{address}:{port}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS_OF_CLIENT).create_bucket(Bucket=bucket)
        yield url
    finally:
        server.stop()


def names_in_bucket(url: str, bucket: str) -> list[str]:
    """The objects in the bucket."""
    import boto3

    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS_OF_CLIENT)
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


@dataclass(frozen=True)
class GitRepository:
    """A repository on a server, and the folder from which commits are made."""

    url: str
    folder: Path

    def commit(self, message: str) -> None:
        """Commit whatever is in the folder."""
        git(self.folder, "add", "--all")
        git(self.folder, "-c", "user.name=tests", "-c", "user.email=tests@example.com", "commit", "--message", message)


@contextmanager
def serve_git(address: str, dags: Path, folder: Path) -> Iterator[GitRepository]:
    """A git server with one repository, whose folder `dags` is a copy, until the block ends."""
    shutil.copytree(dags, folder / "company" / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    git(folder / "company", "init", "--initial-branch=main")
    port = free_port()
    command = ["git", "daemon", f"--listen={address}", f"--port={port}", "--export-all", "--reuseaddr"]
    daemon = subprocess.Popen([*command, f"--base-path={folder}", str(folder)], preexec_fn=die_with_parent)
    try:
        repository = GitRepository(f"git://{address}:{port}/company/.git", folder / "company")
        repository.commit("The DAGs of the checkout")
        yield repository
    finally:
        daemon.terminate()
        daemon.wait()


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
