"""One training step and what is around it: state, parallel execution, saving, metrics, loop."""
