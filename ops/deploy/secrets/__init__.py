"""Secrets: generated passwords and keys, and certificates."""
