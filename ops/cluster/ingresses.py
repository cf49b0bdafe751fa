"""Ingresses: their URLs and entry points."""

from ops.cluster.kubectl import Object


def url_of(ingress: Object, address: str) -> str:
    """The URL of an Ingress, with `address` if it names no host."""
    rule = (ingress["spec"].get("rules") or [{}])[0]
    scheme = "https" if ingress["spec"].get("tls") or "websecure" in entry_points(ingress) else "http"
    shown = f"[{address}]" if ":" in address else address
    path = rule.get("http", {}).get("paths", [{}])[0].get("path", "/")
    return f"{scheme}://{rule.get('host') or shown}{path}"


def entry_points(ingress: Object) -> list[str]:
    """The entry points of Traefik that an Ingress names; empty means all."""
    named = (ingress["metadata"].get("annotations") or {}).get("traefik.ingress.kubernetes.io/router.entrypoints")
    return named.split(",") if named else []
