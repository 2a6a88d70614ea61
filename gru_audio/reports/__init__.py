"""The report of a sweep: reads its files, compares its variants, draws figures, writes a page."""
