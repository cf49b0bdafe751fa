"""Access to a cluster and what it runs, shared by ops.deploy and ops.doctor."""
