"""Data sets: prepared, opened, split, ordered and fed."""
