"""Storage of the SQL Server double: database, catalogue, principals and transactions over DuckDB."""
