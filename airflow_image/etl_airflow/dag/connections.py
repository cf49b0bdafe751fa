"""The names of the two Airflow connections that `plan` and `reconcile` use."""

SOURCE = "source"
SINK = "sink"
