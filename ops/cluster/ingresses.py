"""Ingresses: the URL of each, and the entry points of Traefik that lead to it."""

from ops.cluster.kubectl import Object


def url_of(ingress: Object, address: str) -> str:
    """The address of an Ingress: its host, or else the one given."""
    rule = (ingress["spec"].get("rules") or [{}])[0]
    scheme = "https" if ingress["spec"].get("tls") or "websecure" in entry_points(ingress) else "http"
    shown = f"[{address}]" if ":" in address else address
    path = rule.get("http", {}).get("paths", [{}])[0].get("path", "/")
    return f"{scheme}://{rule.get('host') or shown}{path}"


def entry_points(ingress: Object) -> list[str]:
    """By which of Traefik's entry points it is reached; none are named where it is by all."""
    named = (ingress["metadata"].get("annotations") or {}).get("traefik.ingress.kubernetes.io/router.entrypoints")
    return named.split(",") if named else []
