"""Bundles: one archive with everything for a machine without a network.

It has scripts, manifests, images, their bills of materials, and checksums of all; its signature is a file beside it.
"""

import errno
import gzip
import hashlib
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ops.cluster import processes
from ops.cluster.console import Console, DeployError
from ops.deploy.images import signing
from ops.deploy.images.builders import Builder
from ops.deploy.images.contents import bill_of, read_contents
from ops.deploy.images.images import archive_name, build_images, work_folder
from ops.deploy.images.platforms import image_problems, this_platform
from ops.deploy.manifests.rendering import Rendering
from ops.deploy.options import Options

TOP = "etl-poc"
"""The folder in the archive."""
MANIFEST = "manifest.json"
_EMULATORS = Path("/proc/sys/fs/binfmt_misc")
_QEMU = {"amd64": "x86_64", "arm64": "aarch64"}
_PROJECT = ("scripts", "ops", "k8s", "docs", "external-db", "README.md")


@dataclass(frozen=True)
class Bundle:
    """An unpacked bundle with verified checksums."""

    root: Path
    overlay: str
    """The folder of the overlay, relative to the root."""
    platform: str
    """The platform of the images, such as linux/amd64."""
    images: dict[str, str]
    """IDs by name."""

    is_temporary: bool = False
    """Whether it was unpacked for this run only."""

    def importing(self, console: Console, image: str, command: Sequence[str]) -> None:
        """Import an image. Its archive is deleted if the bundle is temporary."""
        archive = self.root / "images" / archive_name(image)
        processes.follow(console, f"Importing {image} into the node", [*command, str(archive)])
        if self.is_temporary:
            archive.unlink()


@dataclass(frozen=True)
class Project:
    """A checkout, an overlay in it, and its rendering."""

    root: Path
    overlay: Path
    rendering: Rendering

    @property
    def images(self) -> list[str]:
        """The images that the overlay names."""
        return self.rendering.images


def write_bundle(console: Console, options: Options, builder: Builder, project: Project, target: Path) -> None:
    """Build or pull every image and write the archive. Raises DeployError."""
    if not project.overlay.is_relative_to(project.root):
        raise DeployError(f"{project.overlay} does not lie in {project.root}, which is what is bundled: move it there.")
    platform = options.platform or this_platform()
    if options.sign_with:
        signing.check_program()
    _check_platform(platform, project, options)
    with work_folder() as name:
        folder = Path(name)
        ids = build_images(
            console, builder, project.rendering, project.root, options.ca_file, pull=options.pull, platform=platform
        )
        for image in project.images:
            ids[image] = ids.get(image) or builder.fetch(console, image, platform)
            if (found := builder.platform_of(image)) != platform:
                raise DeployError(f"{builder.name} has {image} for {found or 'no platform'}, not for {platform}.")
            builder.save(console, image, folder / archive_name(image))
        bills = list(_write_bills(console, folder, project.images))
        files = dict(_project_files(project.root))
        files |= {f"images/{archive_name(image)}": folder / archive_name(image) for image in sorted(project.images)}
        files |= {f"sbom/{file.name}": file for file in bills}
        if options.k3s_files:
            files |= {f"k3s/{path.relative_to(options.k3s_files)}": path for path in _files(options.k3s_files)}
        console.say(f"Writing {target} …")
        manifest = {
            "platform": platform,
            "overlay": str(project.overlay.relative_to(project.root)),
            "images": ids,
            "sha256": {name: _checksum(file) for name, file in files.items()},
        }
        _write(target, files, json.dumps(manifest, indent=2), folder)
    console.say(f"Wrote {target} for {platform} ({target.stat().st_size / 1000**2:.0f} MB).")
    verify = ""
    if options.sign_with:
        signing.sign(console, target, options.sign_with)
        verify = (
            f"ssh-keygen -Y verify -f signers -I {signing.IDENTITY} -n {signing.NAMESPACE} -s {target.name}.sig"
            f" < {target.name} && "
        )
    else:
        console.warn(f"{target} is not signed: changes in transit would run as root there. --sign-with KEY signs it.")
    console.show(
        f"On the other machine: {verify}tar --extract --file {target.name} && cd {TOP}"
        " && sudo scripts/apply-all.sh --from-bundle ."
    )


def open_bundle(console: Console, path: Path, folder: Path) -> Bundle:
    """Unpack a bundle into the folder, or use an unpacked one, and verify its checksums. Raises DeployError."""
    root = path
    if not path.is_dir():
        console.say(f"Unpacking {path} …")
        root = folder / TOP
        _unpack(path, folder)
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        checksums, images, overlay = manifest["sha256"], dict(manifest["images"]), str(manifest["overlay"])
        platform = str(manifest["platform"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DeployError(f"{path} is not a bundle: it holds no {TOP}/{MANIFEST} that can be read.") from None
    console.say("Checking the checksums of the bundle …")
    bad = [name for name, checksum in checksums.items() if not _is_intact(root / name, checksum)]
    if bad:
        raise DeployError(f"{path} is damaged ({', '.join(bad)}): copy it again.")
    return Bundle(root, overlay, platform, images, is_temporary=root != path)


def _write_bills(console: Console, folder: Path, images: Sequence[str]) -> Iterator[Path]:
    """Write the bill of materials of each image. Python may be unable to decompress a layer."""
    for image in images:
        archive = folder / archive_name(image)
        name, _, version = image.rpartition(":")
        bill = archive.with_suffix(".cdx.json")
        try:
            bill.write_text(json.dumps(bill_of(read_contents(archive), name, version), indent=1) + "\n")
        except DeployError as error:
            console.warn(f"{image}: the bundle has no bill of materials of it. {error}")
        else:
            yield bill


def _check_platform(platform: str, project: Project, options: Options) -> None:
    """Refuse impossible combinations before minutes of building."""
    pinned = [image for image in project.images if "@" in image]
    if pinned:
        raise DeployError(
            f"{project.overlay} names {', '.join(pinned)} by digest, which archives of images do not keep: leave that"
            " out for a bundle. Its checksums, which the signature is of as well, say what its images are."
        )
    for problem in image_problems(project.images, platform):
        raise DeployError(problem)
    machine = platform.partition("/")[2]
    if platform != this_platform() and not (_EMULATORS / f"qemu-{_QEMU[machine]}").exists():
        raise DeployError(
            f"To build for {platform} on {this_platform()}, programs for it must run here: install QEMU's emulation"
            " (Debian, Ubuntu: qemu-user-static and binfmt-support; Fedora: qemu-user-static), or make the bundle on"
            " such a machine."
        )
    of_k3s = {file.stem.rpartition("-")[2] for file in (options.k3s_files or Path()).glob("sha256sum-*.txt")}
    if options.k3s_files and of_k3s and machine not in of_k3s:
        raise DeployError(
            f"{options.k3s_files} has K3s for {', '.join(sorted(of_k3s))}, and the bundle is for {machine}."
        )


def _project_files(root: Path) -> Iterator[tuple[str, Path]]:
    for name in _PROJECT:
        for path in _files(root / name):
            yield str(path.relative_to(root)), path


def _files(top: Path) -> Iterator[Path]:
    """A file, or all files of a folder."""
    for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _write(target: Path, files: dict[str, Path], manifest: str, folder: Path) -> None:
    """Write to a temporary name and rename, so that the target is always complete."""
    partial = target.with_name(f".{target.name}.part")
    note = folder / MANIFEST
    note.write_text(manifest)
    try:
        # The fastest level compresses images well enough.
        with (
            partial.open("wb") if target.suffix == ".tar" else gzip.open(partial, "wb", compresslevel=1) as stream,
            tarfile.open(fileobj=stream, mode="w|") as tar,
        ):
            for name, file in {MANIFEST: note, **files}.items():
                tar.add(file, f"{TOP}/{name}", filter=_without_owner)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DeployError(f"{target} cannot be written: {error.strerror}.") from error


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack regular files only, and only below the folder."""
    try:
        with tarfile.open(archive, mode="r|*") as tar:
            for entry in tar:
                name = PurePosixPath(entry.name)
                content = tar.extractfile(entry) if entry.isfile() else None
                if content is None or name.is_absolute() or ".." in name.parts:
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DeployError(
                f"{folder} has no room for {archive}: free some, name another place in TMPDIR, or unpack it yourself"
                " and give --from-bundle the folder."
            ) from error
        raise DeployError(f"{archive} cannot be unpacked ({error}): copy it again.") from error
    except (EOFError, zlib.error, tarfile.TarError) as error:
        raise DeployError(f"{archive} cannot be unpacked ({error}): copy it again.") from error


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _is_intact(file: Path, checksum: str) -> bool:
    return file.is_file() and _checksum(file) == checksum
