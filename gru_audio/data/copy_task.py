"""The symbols of the copy task, which its data sets and its task share."""

SYMBOLS = 10  # 0 is a blank, 1 to 8 are copied, 9 is the recall signal
COPIED = 10  # number of symbols to copy
