"""Settings from the environment: source, sink, staging, TLS and passwords."""
