"""Preflight: facts that are read, the plan made of them, and the problems of both. Nothing is changed."""
