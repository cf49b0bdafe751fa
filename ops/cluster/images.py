"""Images: which can be pulled, and why a pull failed, by the kubelet's message."""

import re

WAITING = (
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"),
    *("RegistryUnavailable", "SignatureValidationFailed"),
)
"""Reasons of containers that wait for an image."""
_NETWORK = (
    "the node cannot reach the registry: check its network and its DNS; behind a proxy install K3s with"
    " HTTP_PROXY, HTTPS_PROXY and NO_PROXY set; without a network install from a bundle (--from-bundle)"
)
_MIRRORS = "/etc/rancher/k3s/registries.yaml"
# In this order: a missing platform is also "not found". Errors of the first kind do not go away with retries.
_PERMANENT = (
    (r"no match for platform|no matching manifest", "the registry has no image for this node's architecture"),
    (r"InvalidImageName|invalid reference format|ErrImageNeverPull", "correct its name in k8s/components/images"),
    (
        r"@sha256:[0-9a-f]{64}.*(manifest unknown|not found)",
        "the registry no longer has the recorded digest of this tag: if the image that the tag has now is trusted, run"
        " this again with --new-digests",
    ),
    (r"manifest unknown|not found|name unknown", "the registry has no such image: correct its name or tag"),
    (r"unauthorized|authorization failed|denied|\b401\b|\b403\b", f"the registry asks for a login: {_MIRRORS}"),
    (r"x509|certificate|tls:", f"the node does not trust the registry's certificate, or a proxy's: tls in {_MIRRORS}"),
    (r"no space left", "the node's disk is full: free some (docs/runbooks/VolumeFilling.md)"),
)
_TEMPORARY = (
    (r"toomanyrequests|\b429\b", f"the registry limits pulls without a login: wait, or log in: {_MIRRORS}"),
    (
        r"no such host|name resolution|server misbehaving|lookup|timeout|connection re|unreachable|no route|EOF|proxy",
        _NETWORK,
    ),
)


def is_local(image: str) -> bool:
    """Whether an image is built here and imported, never pulled."""
    return image.startswith("localhost/")


def explain(message: str) -> str:
    """Advice about a failed pull, with the end of the kubelet's message."""
    line = " ".join(message.split())
    advice = next((text for pattern, text in (*_PERMANENT, *_TEMPORARY) if re.search(pattern, line)), None)
    end = line.rpartition("desc = ")[2]
    end = f"… {end[-200:].lstrip()}" if len(end) > 200 else end
    return f"{advice} ({end})" if advice else end or "no reason is given"


def is_permanent(message: str) -> bool:
    """Whether retries are useless."""
    return any(re.search(pattern, message) for pattern, _ in _PERMANENT)
