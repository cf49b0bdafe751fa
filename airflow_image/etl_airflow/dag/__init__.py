"""The DAG of a pipeline: plan, the steps as pods, and reconcile."""
