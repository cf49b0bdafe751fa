"""How fast rows get from Postgres into SQL Server: this project, what it replaces, its peers, and the raw limits.

`make bench` measures everything in turn on one machine, in one run, on the same source and the same sink, and writes
docs/benchmarks.md. What counts are ratios.
"""
