"""TDS, the wire protocol of the SQL Server double."""
