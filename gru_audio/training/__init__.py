"""Training: the step, its parallel execution, the loop, checkpoints and metrics."""
