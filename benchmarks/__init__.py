"""What is measured about speed and memory: one question a file, and the harness that asks it."""
