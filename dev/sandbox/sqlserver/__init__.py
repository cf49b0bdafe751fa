"""A stand-in for SQL Server, for tests and demos where there is none: it speaks TDS 7.4 over DuckDB.

It knows the statements of this project and its tests, and refuses all others with error 102. What passes here shows
that drivers and loader work together; it says nothing about T-SQL that the stand-in does not know.

A few more statements are known because the loaders that this project is measured against (sling, dlt) send them.

Where it differs from SQL Server:

- Nobody waits for another's locks, except for application locks. Who writes what another has not yet committed becomes
  a deadlock victim (1205); 1222 is never sent. Readers see what was committed when their statement began; from a
  transaction's first write on, what was committed then.
- An error undoes the whole transaction, with XACT_ABORT or without; without, it stays open for nothing but ROLLBACK.
- A key tells case and spaces at the end, whatever its collation, and so does a join of two columns. Other comparisons
  follow the collation's `_BIN` or `_CS`, but for accents.
- AVG of decimals is computed as a float; division of decimals is refused. Times have microseconds, no less, no more.
- A text is converted to varbinary as UTF-8. An index is listed, and speeds up nothing.
- EXCEPT is known as `EXISTS (SELECT values EXCEPT SELECT values)` alone, and for no texts.
- A batch is refused for an unknown verb before it runs; for anything else when its turn comes.
- A datetimeoffset keeps its local time, not its offset.
- There is no encryption unless it is given a certificate; with one everything is encrypted, TDS 7.4 by TLS 1.2.
- A trigger is AFTER statements and sees neither `inserted` nor `deleted`; an error in it ends the transaction.
- Messages are in us_english; in Deutsch, which a session may set, are a few of them (`languages.py`).
- A backup is a DuckDB file, and a database has to be taken offline before it is restored (`backups.py`).
- There is `master`, in which nothing is kept, and one database beside it. Only the administrator, whose name and
  password it is started with, creates databases, logins, users, roles and grants. What they say is enforced for
  statements on tables; what the system's views hold is visible to all. There is no DENY, no chain of ownership, no
  lockout and no expiry.
"""

from dev.sandbox.sqlserver.client import SqlServerDouble

__all__ = ["SqlServerDouble"]
