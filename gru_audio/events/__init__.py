"""Sound events on the host: from probabilities of frames to lists of events, and their metrics."""
