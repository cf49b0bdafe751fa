"""The pipeline model, without I/O: columns, types, filter, window and key. A DAG needs no more of this package."""
