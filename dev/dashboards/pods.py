"""Dashboard of pods and nodes: usage, limits, and failures."""

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard

from dev.dashboards.board import Rows, choice, dashboard
from dev.dashboards.panels import Queries, faults, number, rows, series, shares
from dev.dashboards.promql import a_second, events, events_shown, highest

_POD = 'namespace=~"$namespace", pod=~"$pod"'
CONTAINER = "namespace, pod, container"
MEMORY = 'resource="memory"'
_BADLY = f'reason!="Completed", {_POD}'
_DISKS = 'fstype!~"tmpfs|ramfs"'


def _share(title: str, description: str, queries: Queries) -> timeseries.Panel:
    """Share in use, over time, with a threshold at 90 %."""
    return series(title, description, queries, unit="percentunit", span=8, thresholds=[(0.9, "red")])


_ROWS: Rows = {
    "Now": [
        number("Pods", "By phase.", {"{{phase}}": f"sum by (phase) (kube_pod_status_phase{{{_POD}}}) > 0"}, span=8),
        faults(
            "Restarts",
            "Of containers, in the time range.",
            {"restarts": events_shown("kube_pod_container_status_restarts_total", _POD)},
        ),
        faults(
            "Killed for memory",
            "Processes on all nodes, in the time range.",
            {"kills": events_shown("node_vmstat_oom_kill")},
        ),
        number(
            "Nodes ready",
            "Of all nodes.",
            {
                "ready": 'sum(kube_node_status_condition{condition="Ready", status="true"})',
                "all": "count(kube_node_info)",
            },
        ),
        number(
            "Fullest file system",
            "Of all nodes and volumes. Red: an alert fires.",
            {"used": f"max(1 - node_filesystem_avail_bytes{{{_DISKS}}} / node_filesystem_size_bytes)"},
            unit="percentunit",
            thresholds=[(0.8, "orange"), (0.9, "red")],
        ),
    ],
    "Pods": [
        series(
            "CPU",
            "Cores in use.",
            {"{{pod}} {{container}}": a_second("container_cpu_usage_seconds_total", CONTAINER, _POD)},
        ),
        series(
            "Memory",
            "In use and not reclaimable.",
            {"{{pod}} {{container}}": highest("container_memory_working_set_bytes", CONTAINER, _POD)},
            unit="bytes",
        ),
        shares(
            "Memory against its limit",
            "At 100 % a container is killed. The highest in the time range.",
            {
                "{{pod}} {{container}}": f"topk(12, max by ({CONTAINER})"
                f" (max_over_time(container_memory_working_set_bytes{{{_POD}}}[$__range]))"
                f" / on ({CONTAINER}) max by ({CONTAINER})"
                f" (max_over_time(kube_pod_container_resource_limits{{{MEMORY}, {_POD}}}[$__range])))"
            },
            thresholds=[(0.75, "orange"), (0.9, "red")],
        ),
        rows(
            "Waiting and failed containers",
            "Containers that wait, with the reason; and how the container before them ended.",
            {
                "waits": highest("kube_pod_container_status_waiting_reason", f"{CONTAINER}, reason", _POD),
                "ended": highest("kube_pod_container_status_last_terminated_reason", f"{CONTAINER}, reason", _BADLY),
            },
            span=12,
        ),
        series(
            "Containers that restarted",
            "Each bar a quarter of an hour.",
            {"{{pod}} {{container}}": f"{events('kube_pod_container_status_restarts_total', CONTAINER, _POD)} > 0"},
            bars=True,
            span=24,
        ),
    ],
    "Nodes, volumes and the quota": [
        series(
            "CPU of nodes",
            "Share in use.",
            {"{{instance}}": '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'},
            unit="percentunit",
            span=8,
        ),
        _share(
            "Memory of nodes",
            "Share in use. Near 100 % the kernel kills.",
            {"{{instance}}": "1 - max by (instance) (node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)"},
        ),
        series(
            "Kills for memory",
            "Processes, each bar a quarter of an hour, including those of pods that ended before Prometheus saw them.",
            {"{{instance}}": events("node_vmstat_oom_kill", "instance")},
            span=8,
            bars=True,
        ),
        _share(
            "File systems of nodes",
            "Share in use.",
            {
                "{{instance}} {{device}}": "max by (instance, device)"
                f" (1 - node_filesystem_avail_bytes{{{_DISKS}}} / node_filesystem_size_bytes)"
            },
        ),
        _share(
            "Volumes",
            "Share in use. Volumes that are folders of one file system share its space.",
            {
                "{{persistentvolumeclaim}}": "max by (namespace, persistentvolumeclaim)"
                ' (1 - kubelet_volume_stats_available_bytes{namespace=~"$namespace"}'
                " / kubelet_volume_stats_capacity_bytes)"
            },
        ),
        _share(
            "The namespace's quota",
            "Share in use; no pod is created beyond the quota.",
            {
                "{{namespace}} {{resource}}": 'max by (namespace, resource) (kube_resourcequota{type="used"})'
                ' / max by (namespace, resource) (kube_resourcequota{type="hard"})'
            },
        ),
    ],
}


def pods() -> Dashboard:
    """CPU, memory against limits, restarts, kills, volumes, nodes."""
    board = dashboard("Pods and nodes", "pods", "Usage and limits of pods, failed pods, and usage of nodes.", _ROWS)
    board.with_variable(choice("namespace", "Namespace", "label_values(kube_pod_info, namespace)"))
    return board.with_variable(choice("pod", "Pod", 'label_values(kube_pod_info{namespace=~"$namespace"}, pod)'))
