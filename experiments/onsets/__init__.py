"""Onset detection from frame scores: the analysis of `update_gate.py`."""
