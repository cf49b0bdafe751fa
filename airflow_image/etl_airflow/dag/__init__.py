"""What every pipeline's DAG is made of: plan, the ETL steps as pods, and the checks before the watermark moves."""
