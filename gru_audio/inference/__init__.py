"""Applies a trained model to clips, to long recordings and to live sound."""
