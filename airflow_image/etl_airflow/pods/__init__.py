"""Pods of ETL steps: their specification, the operator that runs them, their logs and their end."""
