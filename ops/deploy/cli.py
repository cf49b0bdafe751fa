"""The command line of `scripts/apply-all.sh`: errors end in one sentence and an exit code."""

from collections.abc import Sequence
from pathlib import Path

from ops.cluster.console import Console
from ops.cluster.kubectl import Kubectl
from ops.deploy.down import down
from ops.deploy.images import signing
from ops.deploy.images.bundle import Bundle, open_bundle
from ops.deploy.images.images import work_folder
from ops.deploy.options import Options, parse
from ops.deploy.up import import_bundle, make_bundle, up


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command; returns the exit code."""
    options = parse(arguments)
    console = Console()
    stopped = "Stopped. Run the same again to go on from where it was."
    return console.run(lambda: _run(console, options), stopped=stopped)


def _bundle(console: Console, options: Options, folder: Path) -> Bundle:
    path = options.from_bundle or Path()
    if options.signers:
        signing.verify(console, path, options.signers)
    elif not path.is_dir():
        console.warn(f"The signature of {path} is not verified: --signers FILE does that.")
    return open_bundle(console, path, folder)


def _run(console: Console, options: Options) -> None:
    kubectl = Kubectl()
    if options.bundle:
        make_bundle(console, options, kubectl, options.bundle)
        return
    with work_folder() as folder:
        bundle = _bundle(console, options, Path(folder)) if options.from_bundle else None
        if bundle and options.action == "import":
            import_bundle(console, options, bundle)
            return
        (down if options.action == "down" else up)(console, options, kubectl, bundle)
