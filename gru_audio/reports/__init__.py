"""From the files of a sweep to a page: read, compare, draw, write."""
