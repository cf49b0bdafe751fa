"""`etl export-metrics`: metrics of the databases, for Prometheus."""
