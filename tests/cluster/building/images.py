"""Images without a registry: those of system pods from scratch, and a substitute for `debian:trixie-slim`."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.building.cache import made
from tests.cluster.errors import ClusterError

SUITE = "trixie"
BASE_IMAGE = f"docker.io/library/debian:{SUITE}-slim"
PAUSE_IMAGE = "localhost/pause:3"
COREDNS_IMAGE = "localhost/coredns:1"
TRAEFIK_IMAGE = "localhost/traefik:1"
METRICS_IMAGE = "localhost/metrics-server:1"
_APT = Path(__file__).with_name("apt.conf")
_LEFT_OUT = ("doc", "groff", "info", "lintian", "locale", "man")
"""Below /usr/share, as in the official image."""
_FORMAT = "2"
"""Raise it when archives come out differently."""


def system_images(programs: dict[str, Path]) -> list[Path]:
    """The archives of the images of all system pods."""
    images = {
        PAUSE_IMAGE: "pause",
        COREDNS_IMAGE: "coredns",
        TRAEFIK_IMAGE: "traefik",
        METRICS_IMAGE: "metrics-server",
    }

    def make(folder: Path) -> None:
        for image, program in images.items():
            program_image(folder / f"{program}.tar", image, programs[program])

    decides = (str(programs[program].parent.name) for program in images.values())
    folder = made("system-images", _FORMAT, *images, *decides, make=make)
    return [folder / f"{program}.tar" for program in images.values()]


def base_image() -> Path:
    """The archive of a minimal Debian from Debian's packages, named like the official image it stands in for."""
    sources = debian_sources(SUITE)

    def make(folder: Path) -> None:
        layer = folder / "layer.tar"
        command = [
            *("mmdebstrap", "--variant=minbase", "--include=ca-certificates"),
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            # By a hook: it would take from mmdebstrap what that has just fetched.
            f"--customize-hook=upload {_APT} /etc/apt/apt.conf.d/docker-clean",
            *(SUITE, str(layer), *sources),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ClusterError(
                f"mmdebstrap could not make Debian {SUITE}. Where it says that a key is unknown, "
                f"a newer debian-archive-keyring is needed. It says:\n{ran.stderr[-2000:]}"
            )
        write_archive(folder / "image.tar", BASE_IMAGE, layer, {"Cmd": ["bash"]})
        layer.unlink()

    decides = (_FORMAT, SUITE, *_LEFT_OUT, _APT.read_text(), *sources)
    return made("base-image", *decides, make=make) / "image.tar"


def write_archive(archive: Path, name: str, layer: Path, config: dict[str, object]) -> None:
    """Write an image of one layer as `docker save` does."""
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    description = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        # One entry a layer, else buildah cannot lay another one over it.
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "tests/cluster"}],
    }
    encoded = json.dumps(description).encode()
    config_name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, f"{digest}.tar")
        for path, data in ((config_name, encoded), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def program_image(archive: Path, name: str, program: Path) -> None:
    """Write an image that holds nothing but one static program."""
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add(program, program.name)
    write_archive(archive, name, layer, {"Entrypoint": [f"/{program.name}"]})
    layer.unlink()


def debian_sources(suite: str) -> list[str]:
    """Lines of sources.list with the mirror of this machine; empty without one: mmdebstrap has a default."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    mirrors = dict(line.split(maxsplit=1) for line in listed if " " in line)
    if "Debian" not in mirrors:
        return []
    lines = [f"deb {mirrors['Debian']} {part} main" for part in (suite, f"{suite}-updates")]
    if "Debian-Security" in mirrors:
        lines.append(f"deb {mirrors['Debian-Security']} {suite}-security main")
    return lines
