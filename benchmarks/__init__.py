"""The benchmarks: one file each, and what they share. `gru_audio.bench` runs them."""
