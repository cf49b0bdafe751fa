"""Kubernetes manifests: rendering, rollout and pruning; network, sign-in and TLS settings in them."""
