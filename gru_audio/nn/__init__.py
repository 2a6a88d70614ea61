"""Neural networks: recurrent cells and layers, convolutions, poolings, heads, and models."""
