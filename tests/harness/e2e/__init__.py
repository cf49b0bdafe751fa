"""Deployments on a cluster: the checkout, the tools of its users, and observers."""
