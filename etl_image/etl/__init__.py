"""Moves the rows that matter from Postgres to SQL Server, one step of one partition of one run at a time."""

__version__ = "0.1.0"
