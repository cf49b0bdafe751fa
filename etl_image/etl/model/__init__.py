"""The pipeline model, without I/O: columns, types, filter, window, key, planning and outcome of a run."""
