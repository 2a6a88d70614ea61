"""Time and memory of one layer of each cell, against an LSTM of equal width."""

import functools
from collections.abc import Iterator, Sequence

from benchmarks.harness import Contestant, Options, Row, compete, say
from benchmarks.layers import Case, make_data, ours
from gru_audio.nn.cells import CELLS

PEER = "lstm"
SIZES = ((32, 100, 40, 128), (64, 100, 64, 256), (16, 500, 64, 512), (8, 160, 88, 64))


def measure(
    options: Options,
    sizes: Sequence[tuple[int, int, int, int]] = SIZES,
    cells: Sequence[str] = tuple(CELLS),
) -> Iterator[Row]:
    """Times forward and backward of one layer of each cell.

    Args:
      options: options of the command line.
      sizes: batch, time, features and units.
      cells: keys of `CELLS`, including the LSTM.
    """

    def contestant(case: Case) -> Contestant:
        return ours(make_data(case), "auto").contestant()

    for size in sizes:
        cases = {cell: Case(cell, *size) for cell in cells}
        name = cases[PEER].size
        say(name)
        makers = {cell: functools.partial(contestant, case) for cell, case in cases.items()}
        for row in compete(makers, options.seconds, [PEER]):
            yield {"table": "One layer, forward and backward", "case": name, **row}
