"""Programs and images of the tests' cluster, built once and kept in a cache."""
