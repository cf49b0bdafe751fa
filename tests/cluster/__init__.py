"""A real Kubernetes cluster for tests, without K3s and without a registry.

Kubernetes, containerd and CoreDNS are built from their Go modules (`building.binaries`) and kept in a cache. Its one
node, and each further one that joins (`nodes`), runs in separate network, mount and process namespaces (`node`): when
the first process in there ends, the kernel ends and removes everything else.

The defaults are those of K3s: pods in 10.42.0.0/16, services in 10.43.0.0/16, DNS at 10.43.0.10. There is no default
StorageClass: the deployment brings its own. K3s's own parts are there too: kube-router's controller of NetworkPolicies,
Traefik (in the place of whose load balancer kube-proxy leads from the node's address to it), and metrics-server. All
connections are logged (`traffic`).
"""

from tests.cluster.cluster import Cluster, run_cluster
from tests.cluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError", "run_cluster"]
