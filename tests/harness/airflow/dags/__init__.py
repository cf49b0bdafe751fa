"""DAGs that the tests of logs and metrics run."""
