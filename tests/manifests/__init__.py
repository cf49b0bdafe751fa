"""Claims about the manifests, without a cluster: every overlay is rendered once and read as objects."""
