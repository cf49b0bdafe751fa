"""Files: the staging folder on a volume or in S3, and encrypted copies of backups."""
