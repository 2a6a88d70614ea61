"""One training step and everything around it: state, parallel execution, saving, metrics, the loop."""
