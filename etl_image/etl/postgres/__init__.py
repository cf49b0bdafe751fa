"""The source: connection, SQL, catalogue and checks of Postgres."""
