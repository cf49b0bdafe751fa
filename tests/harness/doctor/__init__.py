"""Snapshots of a deployment for ops/doctor, and assertions on its verdict."""
