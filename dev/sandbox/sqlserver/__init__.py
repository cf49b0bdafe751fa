"""Double of SQL Server for tests and demos: TDS 7.4 over DuckDB.

It knows the statements of this project and its tests, and refuses all others with error 102. Tests that pass on it show
that drivers and loader work together; they say nothing about T-SQL that the double does not know. It also knows a few
statements of the loaders that this project is benchmarked against (sling, dlt).

Differences from SQL Server:

- Application locks are waited for, and locks of tables (`table_locks.py`), but not of rows: a write to rows that
  another session has not committed fails as a deadlock victim (1205). Two sessions that wait for each other's tables
  wait until a client gives up, or until SET LOCK_TIMEOUT ends it (1222). Readers see what was committed when their
  statement began; from a transaction's first write on, what was committed then.
- A foreign key is checked after each statement, over the whole table; its actions are NO ACTION.
- An error rolls back the whole transaction with XACT_ABORT; without it, the transaction then accepts only ROLLBACK.
- A key distinguishes case and trailing spaces whatever its collation, and so does a join of two columns. Other
  comparisons follow the collation's `_BIN` or `_CS`, but for accents.
- AVG of decimals is computed as a float; division of decimals is refused. Times have exactly six decimals.
- Text is converted to varbinary as UTF-8. Indexes are listed but not used.
- EXCEPT is known only as `EXISTS (SELECT values EXCEPT SELECT values)`, and not for text.
- A batch with an unknown verb is refused before it runs; any other error is raised when its statement is reached.
- A datetimeoffset keeps its local time, not its offset.
- Without a certificate nothing is encrypted; with one everything is: TDS 7.4 over TLS 1.2, TDS 8 "strict".
- A column that ALTER TABLE has added does not count in the size of a row. Error 5074 comes without 4922.
- A trigger is AFTER statements and sees neither `inserted` nor `deleted`; an error in it ends the transaction.
- Messages are in us_english; a few exist in Deutsch, which a session may set (`languages.py`).
- A backup is a DuckDB file; a database has to be taken offline before it is restored (`backups.py`).
- A login by a token of Entra ID is that of an application, or of a managed identity; the keys of the tokens are the
  tests' own, and a token comes over TLS only. An application has a user in the database, or administers the server, but
  no login in `master`.
- There is `master`, which holds no tables, and one other database. Only the administrator, whose name and password are
  given at the start, creates databases, logins, users, roles and grants. Grants are enforced for statements on tables;
  system views show all rows to everyone. There is no DENY, no ownership chaining, no lockout and no expiry.
"""

from dev.sandbox.sqlserver.client import SqlServerDouble

__all__ = ["SqlServerDouble"]
