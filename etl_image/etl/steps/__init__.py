"""The steps: extract, filter, load, and all three in one process; and erasure of a row."""
