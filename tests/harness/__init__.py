"""Starts real parts for tests, and builds fixtures for them."""
