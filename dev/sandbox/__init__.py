"""A source, a sink and an Airflow on this machine, for the demo, development and tests."""
