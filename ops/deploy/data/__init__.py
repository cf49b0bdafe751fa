"""Data of a deployment: volumes, backups, restore and erasure."""
