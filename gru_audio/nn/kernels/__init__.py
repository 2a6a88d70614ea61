"""Implementations of the recurrence. All compute the same values and gradients."""
