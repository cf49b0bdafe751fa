"""Loki, its proxy and Fluent Bit on loopback."""
