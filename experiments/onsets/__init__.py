"""What scores of frames tell of onsets: the analysis of `update_gate.py`."""
