"""Captured metrics, the queries on them, and Prometheus' tools."""
