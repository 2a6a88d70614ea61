"""The implementations of the recurrence: all give the same numbers and gradients."""
