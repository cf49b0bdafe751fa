"""The rendered manifests as objects, and the documents that describe them."""
