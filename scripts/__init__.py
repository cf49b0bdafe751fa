"""Setting up a machine, deploying, developing and demonstrating."""
