"""A machine for tests of ops/deploy: stubs of kubectl, buildah and the import on PATH, and a small overlay."""

import json
import re
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import pytest

from ops.cluster.kubectl import NAMESPACE, Kubectl
from ops.cluster.processes import failure
from ops.deploy.images.platforms import this_platform
from tests.doubles import fake_kubectl

SOURCE_PASSWORD = "the-password-of-the-source"
CONNECTIONS = {
    "SOURCE_URL": "postgresql://orders@source-postgres:5432/orders?sslmode=verify-full",
    "SINK_URL": "mssql://etl@mssql-svc:1433/sink?encrypt=yes",
}
IMAGES = (
    *("example.com/loki:3", "example.com/mssql:2022", "example.com/postgres:17"),
    *("localhost/etl:0.1.0", "localhost/etl-airflow:0.1.0"),
)
IMPORT = "import-stub images import"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FAKE_KUBECTL = Path(__file__).with_name("fake_kubectl.py")
# Builds an image whose ID is that of the Dockerfile's text, so that a test changes one by changing the other.
BUILDAH = """#!/bin/bash
printf '%s\\n' "buildah $*" >> "$FAKE_CLUSTER/tools.log"
for word in "$@"; do
  case $word in
    --iidfile=*) printf 'sha256:%s' "$(cat "$FAKE_CLUSTER/build-number")" > "${word#--iidfile=}" ;;
    docker-archive:*)
      archive=${word#docker-archive:}
      content=$(mktemp --directory)
      echo "${archive#*:}" > "$content/name"
      echo '[{"Layers": []}]' > "$content/manifest.json"
      tar --create --file "${archive%%:*}" --directory "$content" name manifest.json
      rm --recursive "$content"
      ;;
    --format=*GraphRoot*) echo "$FAKE_CLUSTER/storage" ;;
    --format=*OCIv1*) cat "$FAKE_CLUSTER/platform" 2>/dev/null || echo PLATFORM ;;
    --format=*) echo sha256:pulled ;;
  esac
done
""".replace("PLATFORM", this_platform())
IMPORT_STUB = """#!/bin/bash
if [[ $* == *--help ]]; then
  cat "$FAKE_CLUSTER/flags-of-import" 2>/dev/null
  exit
fi
printf '%s\\n' "import-stub $*" >> "$FAKE_CLUSTER/tools.log"
[[ $* != *" import "* ]] || tar --extract --to-stdout --file "${!#}" name >> "$FAKE_CLUSTER/imported.log"
[[ ! -e $FAKE_CLUSTER/import-fails ]]
"""


class FakeKubectl(Kubectl):
    """Calls `fake_kubectl` in this process: starting processes would take most of a test's time."""

    def run(
        self, *arguments: str, stdin: str | None = None, hide: Collection[str] = (), seconds: int | None = None
    ) -> str:
        """As `Kubectl.run`."""
        if not shutil.which("kubectl"):
            return super().run(*arguments, stdin=stdin, hide=hide, seconds=seconds)
        words = [f"--request-timeout={self.seconds if seconds is None else seconds}s", *arguments]
        try:
            return fake_kubectl.call(words, stdin or "") + "\n"
        except fake_kubectl.RefusedError as error:
            raise failure([*self.command, *words], str(error), hide) from None

    def forward(self, service: str, port: int, namespace: str = NAMESPACE) -> Any:
        """As `Kubectl.forward`; the server that a test has started is at `port` of the state."""
        words = ["--namespace", namespace, "port-forward", f"service/{service}", f":{port}"]
        try:
            return FakeForwardedPort(fake_kubectl.forwarded(words))
        except fake_kubectl.RefusedError as error:
            raise OSError(f"kubectl port-forward says: {error}") from None


class FakeForwardedPort:
    """A forwarded port that needs no process."""

    is_open = True

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class FakeCluster:
    """The state of the stubs, and the calls that they recorded."""

    def __init__(self, folder: Path, output: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.said = output.readouterr
        """What has been printed since it was called before."""
        self.data = folder / "data"
        self.overlay = folder / "overlay"
        self.overlay.mkdir()
        self.owners: dict[str, tuple[int, int]] = {}
        (folder / "build-number").write_text("1")
        (folder / "source-password").write_text(f"{SOURCE_PASSWORD}\n")
        self.objects_to_render = overlay_objects()
        self.write_overlay()
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._command("kubectl", f'#!/bin/bash\nexec "{sys.executable}" -I -S "{FAKE_KUBECTL}" "$@"\n')
        self._command("buildah", BUILDAH)
        self._command("import-stub", IMPORT_STUB)
        self.set(objects={"Node/one": node("one")})

    @property
    def path(self) -> str:
        """The folder of the stubs."""
        return str(self._bin)

    def arguments(self, *more: str) -> list[str]:
        """Arguments of an installation."""
        options = {
            "--overlay": f"{self.overlay}/",
            "--data-folder": str(self.data),
            "--import-command": IMPORT,
            "--source-password-file": str(self.folder / "source-password"),
        }
        return [f"{name}={value}" for name, value in options.items()] + list(more)

    def write_overlay(self) -> None:
        """Write the objects for `kubectl kustomize`."""
        text = "\n".join(json.dumps(item, indent=4) for item in self.objects_to_render)
        (self.overlay / "rendered.json").write_text(text)
        # As much of YAML as is looked at.
        (self.overlay / "rendered.yaml").write_text(re.sub(r'"(image|ETL_IMAGE)": ("[^"]*"),?', r"\1: \2", text))

    def set(self, **values: Any) -> None:
        """Set values of the state."""
        file = self.folder / "state.json"
        state = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(state | values))

    @property
    def objects(self) -> dict[str, Any]:
        """The objects of the cluster, by kind and name."""
        objects: dict[str, Any] = json.loads((self.folder / "state.json").read_text())["objects"]
        return objects

    def change(self, key: str, item: dict[str, Any] | None) -> None:
        """Replace an object, or remove it."""
        objects = self.objects
        objects.pop(key, None)
        if item is not None:
            objects[key] = item
        self.set(objects=objects)

    def calls(self, *verbs: str) -> list[dict[str, Any]]:
        """The calls of kubectl with one of the verbs, or all of them."""
        file = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [call for call in calls if not verbs or set(verbs) & set(call["argv"])]

    def changes(self) -> list[dict[str, Any]]:
        """The calls that change the cluster."""
        return [
            call
            for call in self.calls("apply", "create", "patch", "delete", "label", "annotate")
            if "--local" not in call["argv"]
        ]

    def tools(self) -> list[str]:
        """The command lines of builder and import."""
        file = self.folder / "tools.log"
        return file.read_text().splitlines() if file.exists() else []

    def imported(self) -> list[str]:
        """The names in imported archives."""
        file = self.folder / "imported.log"
        return file.read_text().splitlines() if file.exists() else []

    def pinned(self) -> list[str]:
        """The images that were pinned."""
        return [line.split()[3] for line in self.tools() if line.startswith("import-stub images label ")]

    def forget_calls(self) -> None:
        """Clear the records."""
        for name in ("calls.jsonl", "tools.log", "imported.log"):
            (self.folder / name).unlink(missing_ok=True)

    def _command(self, name: str, text: str) -> None:
        file = self._bin / name
        file.write_text(text)
        file.chmod(0o755)


def node(name: str, **labels: str) -> dict[str, Any]:
    """A node that is this machine."""
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDRs": ["10.42.0.0/24"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "203.0.113.5"}],
            "nodeInfo": {"bootID": BOOT_ID.read_text().strip(), "architecture": this_platform().partition("/")[2]},
            "images": [{"names": [image]} for image in IMAGES],
        },
    }


def workload(kind: str, name: str, part: str, image: str, namespace: str = "etl-poc") -> dict[str, Any]:
    """A workload of one container."""
    container = {"name": name, "image": image, "envFrom": [{"configMapRef": {"name": "settings"}}]}
    return named(kind, name, part, namespace) | {"spec": {"template": {"spec": {"containers": [container]}}}}


def ingress(name: str, namespace: str, part: str, path: str) -> dict[str, Any]:
    """An Ingress of one path."""
    item = named("Ingress", name, part, namespace) | {"spec": {"rules": [{"http": {"paths": [{"path": path}]}}]}}
    item["metadata"]["annotations"] = {"traefik.ingress.kubernetes.io/router.entrypoints": "websecure"}
    return item


def with_certificate(item: dict[str, Any]) -> dict[str, Any]:
    """The Ingress with TLS."""
    item["spec"]["tls"] = [{"secretName": "ui-tls"}]
    return item


def volume(part: str) -> dict[str, Any]:
    """One of the volumes."""
    item = without_namespace(named("PersistentVolume", f"etl-poc-{part}", "storage"))
    return item | {"spec": {"local": {"path": f"/var/lib/etl-poc/{part}"}}}


def named(kind: str, name: str, part: str, namespace: str = "etl-poc") -> dict[str, Any]:
    """An object with metadata only."""
    labels = {"app.kubernetes.io/part-of": part}
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels}}


def without_namespace(item: dict[str, Any]) -> dict[str, Any]:
    """The object without its namespace."""
    del item["metadata"]["namespace"]
    return item


def overlay_objects() -> list[dict[str, Any]]:
    """A small deployment, in no order."""
    return [
        workload("Deployment", "airflow-scheduler", "airflow", "localhost/etl-airflow:0.1.0"),
        workload("Job", "airflow-migrate", "airflow", "localhost/etl-airflow:0.1.0"),
        workload("Job", "mssql-init-job", "mssql", "localhost/etl:0.1.0"),
        workload("StatefulSet", "mssql", "mssql", "example.com/mssql:2022"),
        workload("StatefulSet", "metadata-postgres", "metadata", "example.com/postgres:17"),
        named("EndpointSlice", "source-postgres", "source")
        | {"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.10"]}], "ports": [{"port": 5433}]},
        *(volume(part) for part in ("mssql", "metadata", "staging")),
        named("PersistentVolumeClaim", "mssql", "storage"),
        *(without_namespace(named("Namespace", name, "foundation")) for name in ("etl-poc", "observability")),
        named("ConfigMap", "settings", "foundation") | {"data": {"A": "1", "ETL_IMAGE": "localhost/etl:0.1.0"}},
        with_certificate(ingress("airflow", "etl-poc", "airflow", "/")),
        named("ConfigMap", "etl-connections", "foundation") | {"data": CONNECTIONS},
        workload("StatefulSet", "loki", "observability", "example.com/loki:3", "observability"),
        ingress("grafana", "observability", "observability", "/grafana"),
        named("NetworkPolicy", "source-postgres", "source") | {"spec": {"egress": []}},
        named("NetworkPolicy", "airflow-scheduler", "airflow"),
    ]


def prepare(
    folder: Path, monkeypatch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str], *, by_process: bool = False
) -> FakeCluster:
    """Use the stubs, and nothing of the real machine. `by_process`: also kubectl as a process."""
    cluster = FakeCluster(folder, output)
    monkeypatch.setenv("PATH", f"{cluster.path}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_CLUSTER", str(folder))
    monkeypatch.setenv("KUBECONFIG", str(FAKE_KUBECTL))  # a file that is there
    for module in [] if by_process else ["deploy.cli", "deploy.data.restore", "deploy.data.erase", "doctor.cli"]:
        monkeypatch.setattr(f"ops.{module}.Kubectl", FakeKubectl)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda path, user, group: cluster.owners.update({Path(path).name: (user, group)}))
    monkeypatch.setattr("ops.deploy.preflight.problems.machine_problems", list)
    monkeypatch.setattr("ops.deploy.preflight.problems.disk_problems", lambda *_arguments, **_named: [])
    monkeypatch.setattr("ops.deploy.preflight.facts.root_is_shared", lambda: True)
    monkeypatch.setattr("ops.deploy.secrets.certificates.KEY_KIND", "rsa:1024")  # quickly made
    # No server listens at the address of the node.
    monkeypatch.setattr("ops.deploy.final_checks.run_final_checks", lambda *_: None)
    monkeypatch.setattr("ops.deploy.manifests.rollout.POLL_SECONDS", 0.05)
    monkeypatch.setattr("ops.deploy.images.pulling.POLL_SECONDS", 0.05)
    monkeypatch.setattr("ops.deploy.first_run.POLL_SECONDS", 0.05)
    return cluster
