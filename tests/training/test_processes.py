"""Messages of process 0 arrive complete, also in pieces."""

import socket
import subprocess
import sys

SCRIPT = """
import sys
import jax, numpy as np
rank, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=rank)
from gru_audio.training import distributed
distributed._CHUNK = 1000
for length in (1, 985, 988, 3000):  # of a text; it comes with {"value": ""}, 13 more
    assert distributed.broadcast(lambda: "a" * length) == "a" * length
assert distributed.broadcast(lambda: rank) == 0
arrays = {"a": np.arange(700.0), "b": np.arange(6, dtype=np.int32).reshape(2, 3)}
heard = distributed.broadcast_arrays(lambda: arrays, arrays)
assert all((heard[name] == arrays[name]).all() for name in arrays)
"""


def test_messages_of_process_0_arrive_complete_in_pieces(environment):
    with socket.socket() as free_port:
        free_port.bind(("localhost", 0))
        port = str(free_port.getsockname()[1])
    ranks = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(rank), port], env=environment)
        for rank in (0, 1)
    ]
    try:
        assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
