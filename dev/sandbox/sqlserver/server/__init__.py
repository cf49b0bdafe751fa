"""Connections of the SQL Server double: sessions, and the execution of batches, calls and bulk loads."""
