"""Sound: files to samples, samples to features, all on the way into a model."""
