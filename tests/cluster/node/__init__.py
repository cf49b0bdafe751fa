"""A node of the tests' cluster: its namespaces, network, cgroups and components."""
