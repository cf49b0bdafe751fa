"""A stand-in for SQL Server, for tests and demos where there is none: it speaks TDS 7.4 over DuckDB.

It knows the statements of this project and its tests, and refuses all others with error 102. What passes here shows
that drivers and loader work together; it says nothing about T-SQL that the stand-in does not know.
"""

from .client import StandIn

__all__ = ["StandIn"]
