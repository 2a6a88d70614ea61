"""Wall time and processor time."""

import threading
import time

from gru_audio.training.logging import Elapsed


def test_sleep_takes_wall_time_only():
    began = Elapsed.now()
    time.sleep(0.3)
    slept = Elapsed.now() - began
    assert slept.wall >= 0.3
    assert slept.cpu < 0.15


def test_work_takes_processor_time_on_any_thread():
    def work():
        deadline = time.thread_time() + 0.2
        while time.thread_time() < deadline:
            pass

    began = Elapsed.now()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (Elapsed.now() - began).cpu >= 0.4


def test_sums():
    assert Elapsed(1.0, 2.0) + Elapsed(0.5, 0.25) - Elapsed(1.0, 1.0) == Elapsed(0.5, 1.25)
