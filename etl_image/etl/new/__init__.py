"""New pipelines from the source's catalogue: a pipeline is chosen for each table, and its DAG file is written."""
