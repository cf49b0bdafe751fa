"""T-SQL of the SQL Server double: parsed, and translated to DuckDB's SQL."""
