"""The command line."""

import argparse
import ipaddress
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ops.cluster.console import new_parser

BUILDERS = ("docker", "podman", "buildah")
"""Programs that build images, in the order in which they are tried."""
PLATFORMS = ("linux/amd64", "linux/arm64")
SYSTEM = "system"
"""In place of a file: the certificate authorities that the images trust."""
SOURCE_TLS = ("verify-full", "require", "disable")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.+?\n-----END CERTIFICATE-----\n?", re.DOTALL)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_Group: TypeAlias = "argparse._ActionsContainer"
_ABOUT = """\
Deploys this checkout to the cluster, or updates the deployment: checks the machine, builds and imports the images,
creates missing Secrets, and applies the manifests part by part. Safe to repeat at any time.

The password of the operational Postgres comes from the environment (SOURCE_PASSWORD), from --source-password-file, or
is asked for. With the component `oidc` the client secret comes from OIDC_CLIENT_SECRET. All other passwords are
generated once and never shown.
"""


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    action: str
    overlay: str | None
    source_address: str | None
    source_password_file: Path | None
    source_name: str | None
    source_ca: str | None
    source_tls: str | None
    sink_ca: str | None
    ui_name: str | None
    data_folder: Path | None
    builder: str
    import_command: tuple[str, ...]
    import_is_default: bool
    ca_file: Path | None
    pull: bool
    new_digests: bool
    timeout: float
    wait_for_first_run: bool
    bundle: Path | None
    k3s_files: Path | None
    platform: str | None
    from_bundle: Path | None
    sign_with: Path | None
    signers: Path | None
    delete_data: bool
    yes: bool
    dry_run: bool


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line; exits with a usage message if it is invalid."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    if given["delete_data"] and given["action"] != "down":
        parser.error("--delete-data belongs to `down`.")
    if given["bundle"] and (given["from_bundle"] or given["action"] != "up"):
        parser.error("--bundle only writes the archive; it goes with no --from-bundle, `down` or `import`.")
    if given["k3s_files"] and not given["bundle"]:
        parser.error("--k3s-files belongs to --bundle.")
    if given["sign_with"] and not given["bundle"]:
        parser.error("--sign-with belongs to --bundle.")
    if given["signers"] and not given["from_bundle"]:
        parser.error("--signers belongs to --from-bundle.")
    if given["new_digests"] and (given["from_bundle"] or given["bundle"] or given["action"] != "up"):
        parser.error("--new-digests asks registries; it goes with no --bundle, --from-bundle, `down` or `import`.")
    if given["action"] == "import" and not given["from_bundle"]:
        parser.error("`import` needs --from-bundle.")
    if given["platform"] and not given["bundle"]:
        parser.error("--platform belongs to --bundle.")
    if given["bundle"] and not given["bundle"].name.endswith((".tar", ".tar.gz", ".tgz")):
        parser.error("--bundle: the name must end in .tar.gz, .tgz or .tar.")
    command = given.pop("import_command")
    default = command is None
    words = ("k3s", "ctr", "images", "import") if default else tuple(shlex.split(command))
    return Options(import_command=words, import_is_default=default, pull=not given.pop("no_pull"), **given)


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("scripts/apply-all.sh", _ABOUT)
    parser.add_argument("action", nargs="?", choices=("up", "down", "import"), default="up", help="default: up")
    _deployment(parser.add_argument_group("what is deployed"))
    _tls(parser.add_argument_group("TLS; an option stays in force until it is given again"))
    _images(parser.add_argument_group("images"))
    _air_gap(parser.add_argument_group("without a network"))
    down = parser.add_argument_group("down: remove the workloads; volumes, Secrets and their namespace stay")
    down.add_argument("--delete-data", action="store_true", help="remove these too, and the data folders")
    down.add_argument("--yes", action="store_true", help="do not ask before data is deleted")
    parser.add_argument_group(
        "import", "only import the images of --from-bundle into this node and pin them: on every further node"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done; change nothing")
    return parser


def _deployment(group: _Group) -> None:
    last = "folder in k8s/overlays, or a path (default: the one that was deployed last, else single-node)"
    group.add_argument("--overlay", metavar="NAME", help=last)
    address = "where the operational Postgres listens (default: what it is now, else the node with the data)"
    group.add_argument("--source-address", metavar="IP", type=_address, help=address)
    group.add_argument("--source-password-file", metavar="FILE", type=_file, help="its password")
    folder = "where the volumes lie on their node (/var/lib/etl-poc)"
    group.add_argument("--data-folder", metavar="DIR", type=_data_folder, help=folder)
    add_timeout(group, "15m")
    first_run = "run the DAG orders_etl and show its reconciliation"
    group.add_argument("--wait-for-first-run", action="store_true", help=first_run)


def _tls(group: _Group) -> None:
    name = "of the operational Postgres in its certificate (source-postgres)"
    group.add_argument("--source-name", metavar="NAME", type=_name, help=name)
    source_ca = "CA certificates that sign its certificate (`system`: those of the system)"
    group.add_argument("--source-ca", metavar="FILE", type=_authorities, help=source_ca)
    modes = "require: encrypted without verification; disable: in plain text (default: verify-full)"
    group.add_argument("--source-tls", choices=SOURCE_TLS, help=modes)
    sink_ca = "CA certificates that sign the certificate of a SQL Server outside (`system`)"
    group.add_argument("--sink-ca", metavar="FILE", type=_authorities, help=sink_ca)
    ui_name = "host name by which people reach Airflow and Grafana"
    group.add_argument("--ui-name", metavar="NAME", type=_name, help=ui_name)


def _images(group: _Group) -> None:
    group.add_argument("--builder", choices=("auto", *BUILDERS), default="auto", help="default: the first that works")
    command = "imports an image into the node, given the archive (`k3s ctr images import`); '' imports nothing"
    group.add_argument("--import-command", metavar="CMD", help=command)
    group.add_argument("--ca-file", metavar="FILE", type=_file, help="CA certificates that the builds need")
    digests = "resolve the tags of all images again (default: the digests that were recorded at their first pull)"
    group.add_argument("--new-digests", action="store_true", help=digests)
    group.add_argument("--no-pull", action="store_true", help="build from the base images that are here")


def _air_gap(group: _Group) -> None:
    bundle = "only write everything for such a machine to one .tar.gz"
    group.add_argument("--bundle", metavar="FILE", type=_path, help=bundle)
    group.add_argument("--k3s-files", metavar="DIR", type=_folder, help="files of K3s to put into the bundle as well")
    group.add_argument("--platform", choices=PLATFORMS, help="of that machine (default: that of this one)")
    group.add_argument("--sign-with", metavar="KEY", type=_file, help="sign the bundle with this key of OpenSSH")
    group.add_argument("--from-bundle", metavar="FILE", type=_path, help="install from it, or from its folder")
    signers = "allowed signers: require a signature of the archive"
    group.add_argument("--signers", metavar="FILE", type=_file, help=signers)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _data_folder(text: str) -> Path:
    path = _path(text)
    if path == Path("/"):
        raise argparse.ArgumentTypeError("name a folder of its own, such as /var/lib/etl-poc.")
    return path


def _folder(text: str) -> Path:
    path = _path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a folder.")
    return path


def _file(text: str) -> Path:
    path = _path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{path} is not a file.")
    return path


def _authorities(text: str) -> str:
    """The certificates in a file, or SYSTEM; never a key, since they go into a ConfigMap."""
    if text == SYSTEM:
        return SYSTEM
    found = "".join(_CERTIFICATE.findall(_file(text).read_text(errors="replace")))
    if not found:
        raise argparse.ArgumentTypeError(f"{text} holds no certificate as PEM (-----BEGIN CERTIFICATE-----).")
    return found


def _name(text: str) -> str:
    if not re.fullmatch(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text} is not the name of a host.")
    return text.lower()


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no IP address, and Kubernetes takes no name here.") from None
    if address.is_loopback or address.is_unspecified or address.is_link_local:
        raise argparse.ArgumentTypeError(f"{text} would lead a pod to itself; give an address that pods can reach.")
    return str(address)


def add_timeout(group: _Group, default: str) -> None:
    """Add the option --timeout."""
    text = f"for each wait, such as 90s or 15m ({default})"
    group.add_argument("--timeout", metavar="TIME", type=_duration, default=default, help=text)


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+)([smh])", text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text} is not a time such as 90s, 15m or 1h.")
    return int(found[1]) * _SECONDS[found[2]]
