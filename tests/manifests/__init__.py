"""What the manifests must be, checked without a cluster: every overlay is rendered once and read as objects."""
