"""Deployments on a cluster: the checkout, its users' tools, and observers of what it does."""
