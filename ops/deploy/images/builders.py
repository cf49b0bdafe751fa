"""Image builders: docker, podman, buildah."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ops.cluster import processes
from ops.cluster.console import Console, DeployError
from ops.deploy import options

# Arguments of the Dockerfiles, whose values the environment overrides.
_ARGUMENTS = ("DEBIAN_IMAGE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Build:
    """A build of an image."""

    image: str
    dockerfile: Path
    root: Path
    ca_file: Path | None = None
    pull: bool = True
    platform: str | None = None
    """Such as linux/arm64; None means that of this machine."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Of the Dockerfile."""


class Builder:
    """A program that builds images; the three differ in a few flags."""

    name = ""
    environment: ClassVar[Mapping[str, str]] = {}
    build_flags: tuple[str, ...] = ()
    no_pull_flag = ""
    save_flags: tuple[str, ...] = ()
    probe: tuple[str, ...] = ("info",)
    inspect: tuple[str, ...] = ("image", "inspect")
    id_format = "{{.Id}}"
    platform_format = "{{.Os}}/{{.Architecture}}"
    storage_format = ""

    def problem(self) -> str | None:
        """Why it cannot build on this machine, or None."""
        if not shutil.which(self.name):
            return f"{self.name} is not installed"
        if not processes.works([self.name, *self.probe]):
            return f"`{self.name} {' '.join(self.probe)}` fails"
        return None

    def build(self, console: Console, build: Build) -> str:
        """Build an image from the project's root; returns its ID."""
        with tempfile.TemporaryDirectory() as folder:
            id_file = Path(folder) / "id"
            command = [
                *(self.name, "build", *self.build_flags, "--network=host"),
                *(f"--file={build.dockerfile}", f"--tag={build.image}", f"--iidfile={id_file}"),
                # Values come from the environment.
                *(f"--build-arg={name}" for name in _ARGUMENTS if os.environ.get(name)),
                *(f"--build-arg={name}={value}" for name, value in build.arguments.items()),
            ]
            if build.ca_file:
                command.append(f"--secret=id=ca,src={build.ca_file}")
            if not build.pull:
                command.append(self.no_pull_flag)
            if build.platform:
                command.append(f"--platform={build.platform}")
            what = f"Building {build.image} with {self.name}"
            processes.follow(console, what, [*command, str(build.root)], self.environment)
            return id_file.read_text().strip()

    def fetch(self, console: Console, image: str, platform: str) -> str:
        """Pull an image unless it is present for that platform; returns its ID."""
        if self.platform_of(image) != platform:
            command = [self.name, "pull", f"--platform={platform}", image]
            processes.follow(console, f"Pulling {image} for {platform}", command)
        return processes.run([self.name, *self.inspect, f"--format={self.id_format}", image]).strip()

    def platform_of(self, image: str) -> str:
        """The platform of a present image; empty if it is absent."""
        return processes.output([self.name, *self.inspect, f"--format={self.platform_format}", image]).strip()

    def save(self, console: Console, image: str, archive: Path) -> None:
        """Save an image as an archive for containerd."""
        processes.follow(console, f"Saving {image}", self.save_command(image, str(archive)))

    def storage(self) -> Path:
        """The folder of its images."""
        found = processes.output([self.name, "info", f"--format={self.storage_format}"]).strip()
        return Path(found or "/var/lib")

    def save_command(self, image: str, archive: str) -> list[str]:
        """The command that saves an image to a file or to /dev/stdout."""
        # Without this option both programs write to standard output, whose name they refuse.
        output = [] if archive == "/dev/stdout" else [f"--output={archive}"]
        return [self.name, "save", *self.save_flags, *output, image]


class Docker(Builder):
    """Docker, with BuildKit: the Dockerfiles mount a secret."""

    name = "docker"
    storage_format = "{{.DockerRootDir}}"
    # Attestations contain the time: an image would get another ID at each build from the cache.
    environment: ClassVar[Mapping[str, str]] = {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    no_pull_flag = "--pull=false"

    def problem(self) -> str | None:
        """Docker needs its daemon, and since 23 the plug-in for BuildKit."""
        if not shutil.which(self.name):
            return "docker is not installed"
        try:
            client, _, server = processes.run(
                ["docker", "version", "--format={{.Client.Version}}/{{.Server.Version}}"], timeout=20
            ).partition("/")
        except DeployError:
            return "docker's daemon cannot be reached (`docker version`)"
        major = client.partition(".")[0]
        if not server.strip() or (not processes.works(["docker", "buildx", "version"]) and int(major or 0) >= 23):
            return (
                "docker lacks the buildx plug-in (Debian: docker-buildx, Docker's own packages: docker-buildx-plugin)"
            )
        return None


class Podman(Builder):
    """Podman."""

    name = "podman"
    storage_format = "{{.Store.GraphRoot}}"
    build_flags = ("--layers",)
    no_pull_flag = "--pull=never"
    save_flags = ("--format=docker-archive",)


class Buildah(Builder):
    """Buildah."""

    name = "buildah"
    storage_format = '{{index .store "GraphRoot"}}'
    build_flags = ("--layers",)
    no_pull_flag = "--pull=never"
    inspect = ("inspect", "--type=image")
    id_format = "{{.FromImageID}}"
    platform_format = "{{.OCIv1.OS}}/{{.OCIv1.Architecture}}"

    def save_command(self, image: str, archive: str) -> list[str]:
        """`buildah push` to a file."""
        return ["buildah", "push", image, f"docker-archive:{archive}:{image}"]


BUILDERS: dict[str, Builder] = dict(zip(options.BUILDERS, (Docker(), Podman(), Buildah()), strict=True))


def choose_builder(name: str) -> Builder:
    """The builder of that name, or with `auto` the first that works. Raises DeployError with the problem of each."""
    candidates = list(BUILDERS.values()) if name == "auto" else [BUILDERS[name]]
    problems = []
    for builder in candidates:
        problem = builder.problem()
        if problem is None:
            return builder
        problems.append(problem)
    raise DeployError(
        f"Images cannot be built here: {'; '.join(problems)}."
        " Install docker, podman or buildah, or install from an archive that was made elsewhere (--from-bundle)."
    )
