"""T-SQL conditions, evaluated by Microsoft's documented rules: the oracle for rendered predicates."""
