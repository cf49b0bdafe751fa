"""A container registry for tests, as much of it as a node asks for: `python -m tests.doubles.registry FOLDER PORT`.

It serves on loopback, in whatever network it is started in: containerd goes back to plain HTTP for loopback alone.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_INDEX, _MANIFEST = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"
_CONFIG, _LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"


def add_image(folder: Path, tag: str, architecture: str, size: int) -> None:
    """Put an image of one layer of about that many bytes into the folder, as an index of one platform."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo("content")
        entry.size = size
        tar.addfile(entry, io.BytesIO(os.urandom(size)))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _put(folder, _CONFIG, json.dumps(config).encode()),
        "layers": [_put(folder, _LAYER, gzip.compress(layer.getvalue()))],
    }
    found = _put(folder, _MANIFEST, json.dumps(manifest).encode())
    platform = {"architecture": architecture, "os": "linux"}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [found | {"platform": platform}]}
    content = json.dumps(index).encode()
    (folder / tag).write_bytes(content)
    # A client that has resolved the tag then requests its current digest.
    _put(folder, _INDEX, content)


def _put(folder: Path, kind: str, content: bytes) -> dict[str, object]:
    digest = _digest(content)
    (folder / digest).write_bytes(content)
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"
    """TLS is answered with plain HTTP, so that containerd falls back to that."""
    folder: Path

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        file = self.folder / self.path.rpartition("/")[2]
        content = file.read_bytes() if file.is_file() else b""
        self.send_response(200 if content or self.path == "/v2/" else 404)
        if content:
            kind = json.loads(content)["mediaType"] if "/manifests/" in self.path else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Docker-Content-Digest", _digest(content))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    _Handler.folder = Path(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), _Handler).serve_forever()
