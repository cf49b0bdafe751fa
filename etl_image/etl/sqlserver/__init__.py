"""The sink: connection, SQL, checks, preparation and backup of SQL Server."""
