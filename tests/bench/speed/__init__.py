"""The speed of moving rows from Postgres to SQL Server: this project, its predecessor, its peers, and the raw limits.

`make bench` measures everything in turn on one machine, in one run, on the same source and the same sink, and writes
docs/benchmarks.md. What counts are ratios.
"""
