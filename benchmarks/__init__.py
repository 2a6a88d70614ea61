"""Benchmarks of speed and memory: one file per benchmark, and a common harness."""
