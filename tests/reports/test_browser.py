"""Pages in a browser: a good one passes, and each fault is named."""

import base64

import numpy as np
import pytest

from tests.browser import browser, problems
from tests.sounds import encode

pytestmark = pytest.mark.skipif(browser() is None, reason="there is no Chromium")

PAGE = """<!doctype html><html><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Page</title></head>
<body><h1 id="top">Page</h1><a href="#top">up</a> <a href="table.csv">table</a> {}</body></html>"""


def sound(content):
    return f'<audio src="data:audio/wav;base64,{base64.b64encode(content).decode()}"></audio>'


def test_a_good_page_passes_and_faults_are_named(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n")
    tone = encode(0.1 * np.sin(np.arange(8000) / 3), 8000)
    (tmp_path / "good.html").write_text(PAGE.format(sound(tone)))
    assert problems(tmp_path, "good.html") == []

    faults = {
        sound(b"no sound"): "sound 1 does not play",
        '<div style="width: 900px">wide</div>': "pixels wide on a screen of 390",
        '<a href="#nowhere">link</a>': "a link to no part of the page: #nowhere",
        '<a href="absent.csv">link</a>': "a link to no file: absent.csv",
        '<img src="absent.png">': "cannot be loaded",
        '<script>console.error("from a script")</script>': "console: from a script",
        "<script>absent()</script>": "absent is not defined",
    }
    (tmp_path / "bad.html").write_text(PAGE.format("".join(faults)))
    found = problems(tmp_path, "bad.html")
    for message in faults.values():
        assert any(message in problem for problem in found), (message, found)
