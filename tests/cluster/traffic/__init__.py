"""A log of the connections in the tests' cluster, and of the refused ones."""
