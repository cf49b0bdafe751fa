"""Whether the cluster answers, and if not, why."""

import json
import os
import re
import shutil
from pathlib import Path

from ops.cluster import processes
from ops.cluster.console import DeployError
from ops.cluster.kubectl import Kubectl
from ops.cluster.log_lines import reason

K3S_CONFIG = "/etc/rancher/k3s/k3s.yaml"
_SECONDS = 8
# Patterns in the output of kubectl (as of 1.36), with advice; the first match counts.
_REASONS = [
    (
        r"context was not found|context .* does not exist",
        "Its current context is not in it: `kubectl config get-contexts` lists those that are, `kubectl config"
        " use-context NAME` chooses one.",
    ),
    (r"permission denied", "Its kubeconfig may not be read by this user: run this with sudo."),
    (r"error loading config file|couldn't get version/kind|invalid configuration", "Its kubeconfig cannot be used."),
    (
        r"localhost:8080 was refused",
        f"It has no kubeconfig: run this with sudo on the machine with K3s, or set KUBECONFIG (K3s: {K3S_CONFIG}).",
    ),
    (
        r"certificate has expired",
        "The certificates of K3s have expired: `systemctl restart k3s` on its machine (k3s-agent on the others) renews"
        " them, then copy the kubeconfig anew. Where the clocks differ, set them.",
    ),
    (r"x509|certificate", "The certificate there is not the cluster's of the kubeconfig: copy that file anew."),
    (
        r"Unauthorized|provide credentials|logged in",
        "The cluster knows no such user, or the certificate in the kubeconfig has expired: copy it anew; on K3s's own"
        " machine `systemctl restart k3s` renews it.",
    ),
    (r"Forbidden|forbidden", "This user may not look: use the administrator's kubeconfig."),
    (r"no such host", "The name of the server does not resolve: correct it in the kubeconfig, or mend DNS here."),
    (r"was refused|connection refused|EOF|connection reset", "Nobody answers there. {k3s}"),
    (
        r"[Tt]ime-?out|timed out|deadline exceeded|no route|unreachable|gave no answer",
        f"No answer came within {_SECONDS} s: is the machine up, does a firewall let port 6443 through? {{k3s}}",
    ),
    (r"\[-\]|not ready|InternalError|ServiceUnavailable", "The API server is up and not ready. {k3s}"),
]


class UnreachableError(DeployError):
    """The cluster does not answer; the message says why and what to do."""


def reach(kubectl: Kubectl) -> str:
    """The server and context of the cluster. Raises UnreachableError if it does not answer."""
    if not shutil.which(kubectl.command[0]):
        raise UnreachableError(
            "There is neither kubectl nor k3s on PATH: run this on the machine with K3s, or install K3s first"
            " (scripts/install-k3s.sh)."
        )
    files = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(":") if name]
    if files and not any(file.exists() for file in files):
        raise UnreachableError(
            f"KUBECONFIG names {' and '.join(map(str, files))}, which is not there: correct it, or unset it where K3s"
            " runs on this machine."
        )
    cluster = _cluster(kubectl)
    try:
        kubectl.run("get", "--raw=/readyz", seconds=_SECONDS)
    except DeployError as error:
        raise UnreachableError(sentence(cluster, reason(error))) from None
    return cluster


def _cluster(kubectl: Kubectl) -> str:
    try:
        config = json.loads(kubectl.run("config", "view", "--minify", "--output=json"))
        server = config["clusters"][0]["cluster"]["server"]
    except (DeployError, ValueError, LookupError, TypeError):
        return ""
    return f"{server} (context {config.get('current-context', '')})"


def sentence(cluster: str, output: str) -> str:
    """An error of kubectl, with its reason and what to do."""
    line = output.strip().splitlines()[-1]
    advice = next((text for pattern, text in _REASONS if re.search(pattern, line)), "")
    where = f"the cluster at {cluster}" if cluster else "a cluster"
    return f"kubectl cannot reach {where}. {advice.format(k3s=_k3s())}\n  It said: {line}"


def _k3s() -> str:
    """The state of K3s on this machine."""
    if not shutil.which("k3s") or not shutil.which("systemctl"):
        return "Where the cluster is K3s: `systemctl status k3s` on its machine."
    # Its exit code differs by state.
    state = processes.output(["systemctl", "is-active", "k3s"]).strip() or "not known"
    if state == "active":
        return "systemd says that K3s runs: `journalctl --unit k3s --lines 50` tells what it does."
    return (
        f"K3s on this machine is {state}: `systemctl start k3s`; why it ended says `journalctl --unit k3s --lines 50`."
    )
