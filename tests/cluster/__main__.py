"""`python -m tests.cluster up` keeps a cluster up until Ctrl-C.

`python -m tests.cluster environment` prints the environment for `buildah` without a registry.
`python -m tests.cluster programs` builds the programs of tests that need no cluster, unless they are cached.
"""

import argparse
import os
import select
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster import ClusterError, run_cluster
from tests.cluster.building.binaries import FOR_TESTS, build
from tests.cluster.building.buildah import build_environment
from tests.cluster.machine import add_system_folders, install_programs


def up(logs: Path | None, nodes: int) -> None:
    """Keep a cluster of so many nodes up until Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    base = Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        with run_cluster(base / "k8s", logs=logs) as cluster:
            print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
            print(f"export PATH={shlex.quote(str(cluster.kubectl.parent))}:$PATH")
            _print_exports(cluster.build_environment)
            for node in (cluster.node, *(cluster.add_node(number) for number in range(1, nodes))):
                print(f"# Import an image into {node.name}: {shlex.join(node.import_command)} FILE")
            print("# Folders for volumes: not below /var/lib, where the node sees only what was there when it started.")
            print(f"# This machine is {cluster.host_address} there; the node is {cluster.node_address}.")
            print("# Ctrl-C ends and removes the cluster.", flush=True)
            # A cluster that fails ends this too; run_cluster raises the reason.
            select.select([os.pidfd_open(cluster.namespaces)], [], [])
    except KeyboardInterrupt:
        print("The cluster has ended, and nothing of it is left.", file=sys.stderr)
    finally:
        base.rmdir()


def _print_exports(environment: dict[str, str]) -> None:
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    upwards = commands.add_parser("up", help="keep a cluster up until Ctrl-C")
    upwards.add_argument("--logs", type=Path, help="copy the components' logs to this folder at the end")
    upwards.add_argument("--nodes", type=int, default=1, help="how many nodes it has; default: 1")
    commands.add_parser("environment", help="print the environment for buildah")
    commands.add_parser("programs", help="build what tests call that need no cluster")
    arguments = parser.parse_args()
    try:
        if arguments.command == "up":
            up(arguments.logs, arguments.nodes)
        elif arguments.command == "programs":
            for module in FOR_TESTS:
                build(module)
        else:
            add_system_folders()
            install_programs()
            _print_exports(build_environment())
    except ClusterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
