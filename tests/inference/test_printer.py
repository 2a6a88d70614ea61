"""Names are printed unchanged."""

import json

import numpy as np

from gru_audio.inference.printer import Printer


def test_below_the_threshold_a_clip_is_named_without_labels(capsys):
    rows = [("sure.wav", np.float32([0.9, 0.1])), ("unsure.wav", np.float32([0.5, 0.5]))]
    Printer(("a", "b"), 16000, top_k=1, threshold=0.6, as_json=False).clips(rows)
    sure, unsure = (line for line in capsys.readouterr().out.splitlines() if ".wav" in line)
    assert "a 90.0%" in sure
    assert "%" not in unsure
    Printer(("a", "b"), 16000, top_k=1, threshold=0.6, as_json=True).clips(rows)
    assert json.loads(capsys.readouterr().out.splitlines()[1]) == {
        "file": "unsure.wav",
        "labels": [],
    }


def test_brackets_in_names_are_no_markup(capsys):
    long = "x" * 120
    printer = Printer(("[noise]", long), 16000, top_k=2, threshold=0.0, as_json=False)
    printer.clips([("Title [dQw4w9].wav", np.float32([0.75, 0.25])), ("[/b]", np.float32([0, 1]))])
    shown = capsys.readouterr().out
    for told in ("Title [dQw4w9].wav", "[noise] 75.0%", "[/b]", f"{long} 25.0%"):
        assert told in shown
