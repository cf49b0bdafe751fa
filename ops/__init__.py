"""Operation of a deployment: set-up of K3s, deployment, diagnosis."""
