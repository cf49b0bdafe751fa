"""Verification: both sides of a pipeline compared row by row, and repaired where that is asked for."""
