"""Records the connections of a node, from packets that its kernel logs.

Runs as a component of a node: `python -m tests.cluster.traffic.recorder SERVER AUTHORITY CERTIFICATE KEY CONNECTIONS`.
Accepted packets are logged by extra rules, after all that may refuse them; refused ones by kube-router, to the group of
NFLOG that K3s's documentation names, at most ten times a minute for each pod.
"""

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.cluster.api import Api, Watched
from tests.cluster.traffic.connections import ConnectionLog, pods_by_address
from tests.cluster.traffic.packet_log import read_packets

_PASSED_GROUP, _REFUSED_GROUP = 1, 100
_NOT_OF_THE_NODE = ("-m", "addrtype", "!", "--src-type", "LOCAL")
_NOTED = ("-j", "NFLOG", "--nflog-group", str(_PASSED_GROUP))
_RULES = (
    # To other pods and to outside. The source is still the pod's address.
    ("mangle", "POSTROUTING", "-m", "conntrack", "--ctstate", "NEW", *_NOT_OF_THE_NODE, *_NOTED),
    # To the node itself: here come only packets that open a connection, and only when nothing refused them.
    ("nat", "INPUT", *_NOT_OF_THE_NODE, *_NOTED),
)


def main(server: str, authority: str, certificate: str, key: str, connections: str) -> None:
    """Record until the process is ended. It exits when any part of it fails: no connection may be missed."""
    api = Api(server, authority, certificate, key)
    news, log = threading.Event(), ConnectionLog(Path(connections))
    pods = Watched(api, "/api/v1/pods", news)
    for table, chain, *rule in _RULES:
        subprocess.run(["iptables", "--wait", "--table", table, "--append", chain, *rule], check=True)
    for run in (
        pods.run,
        lambda: _note(log, _PASSED_GROUP, refused=False),
        lambda: _note(log, _REFUSED_GROUP, refused=True),
    ):
        threading.Thread(target=_or_end, args=(run,), daemon=True).start()
    while True:
        news.wait(1)
        if news.is_set() and pods.is_complete:
            news.clear()
            log.know(pods_by_address(pods.objects()))
        log.write()


def _note(log: ConnectionLog, group: int, *, refused: bool) -> None:
    for packet in read_packets(group):
        log.note(packet, refused=refused)


def _or_end(run: Callable[[], None]) -> None:
    """Run without end, or exit the process."""
    try:
        run()
    finally:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
