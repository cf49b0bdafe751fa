"""Services without endpoints, and the address of the source."""

from collections.abc import Iterator

from ops.cluster.kubectl import NAMESPACE, Object
from ops.cluster.names import PLACEHOLDER, SERVICE_NAME, SOURCE
from ops.cluster.objects import endpoint_addresses, labels_of
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, subject, subject_of

_ADVICE = "`sudo scripts/apply-all.sh --source-address IP` writes the address of the Postgres there."


def without_endpoints(seen: Snapshot) -> Iterator[Finding]:
    """A Service without ready pods, which refuses connections."""
    for service in seen.of_kind("Service"):
        selector, meta = service["spec"].get("selector"), service["metadata"]
        if not selector or seen.ready_endpoints(meta["name"], meta["namespace"]):
            continue
        pods = [item for item in seen.of_kind("Pod", namespaces=(meta["namespace"],)) if _has(item, selector)]
        servers = [
            item
            for item in seen.of_kind("Deployment", "StatefulSet", "DaemonSet", namespaces=(meta["namespace"],))
            if _has(item["spec"]["template"], selector)
        ]
        labels = ",".join(f"{name}={value}" for name, value in selector.items())
        if servers or pods:
            why = f"no pod with its labels ({labels}) is ready"
        else:
            why = f"no server has the labels that it looks for ({labels})"
        yield Finding(
            subject_of(service),
            f"The Service {meta['name']} has no endpoints: {why}. Connections to it are refused.",
            f"`kubectl --namespace {meta['namespace']} get pods --selector {labels}` shows its pods; where the labels"
            " are wrong, scripts/apply-all.sh puts them right.",
            explained_by={subject_of(item) for item in [*pods, *servers]},
        )


def source_address_missing(seen: Snapshot) -> Iterator[Finding]:
    """An EndpointSlice without the address of the source."""
    if f"@{SOURCE}:" not in seen.settings("etl-connections").get("SOURCE_URL", ""):
        return  # SOURCE_URL names the server itself
    where = subject("EndpointSlice", SOURCE, NAMESPACE)
    slices = [item for item in seen.of_kind("EndpointSlice") if labels_of(item).get(SERVICE_NAME) == SOURCE]
    addresses = [address for item in slices for address in endpoint_addresses(item)]
    if not addresses:
        yield Finding(where, "There is no address of the source: no EndpointSlice names one.", _ADVICE)
    elif addresses == [PLACEHOLDER]:
        yield Finding(where, f"The address of the source is still {PLACEHOLDER}, which stands for none.", _ADVICE)


def _has(item: Object, selector: dict[str, str]) -> bool:
    return selector.items() <= labels_of(item).items()
