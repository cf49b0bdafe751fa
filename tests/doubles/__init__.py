"""Test doubles: servers and programs that answer as the real ones are documented to."""
