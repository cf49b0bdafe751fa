# The stand-in for SQL Server as an image: a test double, for clusters in tests. Context: tests/support.
ARG ETL=localhost/etl:0.1.0
FROM ${ETL}
COPY standin /opt/standin/standin
ENV PYTHONPATH=/opt/standin
CMD ["python", "-m", "standin", "--host", "0.0.0.0", "--port", "1433", "--password-env", "MSSQL_SA_PASSWORD", "--database", "", \
     "--database-file", "/var/opt/mssql/sink.duckdb", \
     "--tls-certificate", "/etc/mssql-tls/tls.crt", "--tls-key", "/etc/mssql-tls/tls.key"]
