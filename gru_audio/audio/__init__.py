"""Sound: decoding of files, augmentation, and the features that models get."""
