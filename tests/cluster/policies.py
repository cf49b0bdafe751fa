"""Enforces NetworkPolicies in the cluster, as the controller that K3s has built in does, and notes who talked to whom.

Called as a component of the cluster: `python -m tests.cluster.policies SERVER AUTHORITY CERTIFICATE KEY CONNECTIONS`.
Whenever pods, namespaces or policies change, all rules are replaced at once. As on K3s, a pod is known when the API
tells its address, which is up to some seconds after it started: until then it may send anything, and who admits only
some refuses it.
"""

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.cluster.api import Api, Watched
from tests.cluster.connections import ConnectionLog
from tests.cluster.packet_log import read_packets
from tests.cluster.policy_rules import CHAIN, HOOKS, NFLOG_GROUP, chains, pods_by_address, restore

_IPTABLES = ("iptables", "--wait")
_IPTABLES_RESTORE = ("iptables-restore", "--wait", "--noflush")


def main(server: str, authority: str, certificate: str, key: str, connections: str) -> None:
    """Enforce until the process is ended. It ends by itself where any part of it fails: nobody must go unguarded."""
    api = Api(server, authority, certificate, key)
    news, log = threading.Event(), ConnectionLog(Path(connections))
    pods, namespaces, policies = watched = [
        Watched(api, path, news)
        for path in ("/api/v1/pods", "/api/v1/namespaces", "/apis/networking.k8s.io/v1/networkpolicies")
    ]
    enforcer, state = Enforcer(), None
    for run in (*(each.run for each in watched), lambda: _note(log)):
        threading.Thread(target=_or_end, args=(run,), daemon=True).start()
    while True:
        news.wait(1)
        if news.is_set() and all(each.is_complete for each in watched):
            news.clear()
            by_name = {item["metadata"]["name"]: item for item in namespaces.objects()}
            before, state = state, (pods_by_address(pods.objects(), by_name), policies.objects())
            # Most changes of a pod are none of its address or labels.
            if state != before:
                log.expect(state[0])
                enforcer.enforce(chains(*state))
                log.know(state[0])
        log.write()


class Enforcer:
    """The rules in the kernel."""

    def __init__(self) -> None:
        self._chains: dict[str, list[str]] = {}

    def enforce(self, wanted: dict[str, list[str]]) -> None:
        """Replace the rules by others. Raises RuntimeError."""
        text = restore(wanted, self._chains)
        ran = subprocess.run(_IPTABLES_RESTORE, input=text, stderr=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"iptables-restore does not take the rules: {ran.stderr}\n{text}")
        if not self._chains:
            for hook in HOOKS:
                subprocess.run([*_IPTABLES, "-I", hook, "-j", CHAIN], check=True)
        self._chains = wanted


def _note(log: ConnectionLog) -> None:
    for packet in read_packets(NFLOG_GROUP):
        log.note(packet)


def _or_end(run: Callable[[], None]) -> None:
    """Do something for ever, or end the process."""
    try:
        run()
    finally:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
