# The stand-in for SQL Server as an image: a test double, for clusters in tests. Context: dev.
ARG ETL=localhost/etl:0.1.0
FROM ${ETL}
# As the program in Microsoft's image it has CAP_NET_BIND_SERVICE in its file (permitted and effective): where a pod has
# dropped that one, the kernel does not run it.
USER 0:0
RUN cp /usr/bin/python3 /opt/etl/bin/sqlservr \
    && python3 -c 'import os, struct; os.setxattr("/opt/etl/bin/sqlservr", "security.capability", struct.pack("<5I", 0x2000001, 1 << 10, 0, 0, 0))'
USER 10001:10001
COPY sandbox/sqlserver /opt/double/dev/sandbox/sqlserver
ENV PYTHONPATH=/opt/double
CMD ["sqlservr", "-m", "dev.sandbox.sqlserver", "--host", "0.0.0.0", "--port", "1433", "--password-env", "MSSQL_SA_PASSWORD", "--database", "", \
     "--database-file", "/var/opt/mssql/sink.duckdb", \
     "--tls-certificate", "/etc/mssql-tls/tls.crt", "--tls-key", "/etc/mssql-tls/tls.key"]
