"""Downloads from a server whose connections break."""

import http.server
import threading

import pytest

from gru_audio.data.datasets.download import download
from gru_audio.settings import UserError

CONTENT = bytes(range(256)) * 4096


class Breaking(http.server.BaseHTTPRequestHandler):
    """Breaks after `limit` bytes; knows ranges if it tells the version."""

    content, limit, tag = CONTENT, 300_000, '"one"'

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        start = 0
        if self.tag and self.headers.get("If-Range") == self.tag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        if self.tag:
            self.send_header("ETag", self.tag)
        self.end_headers()
        self.wfile.write(self.content[start : start + self.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Breaking,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.handler = [], handler
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server):
    return f"http://127.0.0.1:{server.server_port}/sounds.zip"


def test_a_broken_download_is_continued(server, tmp_path):
    target = download(address(server), tmp_path / "downloads" / "sounds.zip")
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert [path.name for path in target.parent.iterdir()] == ["sounds.zip"]
    download(address(server), target)
    assert len(server.asked) == 4


def test_the_next_command_continues_it(server, tmp_path):
    target = tmp_path / "sounds.zip"
    server.handler.limit = 100_000
    with pytest.raises(UserError, match=r"500000 of 1048576 bytes came.* tries again"):
        download(address(server), target)
    assert not target.exists()
    server.handler.limit = 10**7
    assert download(address(server), target).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=500000-"


def test_another_version_of_the_file_begins_again(server, tmp_path):
    target = tmp_path / "sounds.zip"
    server.handler.limit = 100_000
    with pytest.raises(UserError):
        download(address(server), target)
    server.handler.limit, server.handler.tag = 10**7, '"two"'
    server.handler.content = CONTENT[::-1]
    assert download(address(server), target).read_bytes() == CONTENT[::-1]


def test_without_a_version_nothing_is_joined(server, tmp_path):
    server.handler.tag = None
    with pytest.raises(UserError, match="300000 of 1048576 bytes came"):
        download(address(server), tmp_path / "sounds.zip")
    server.handler.limit = 10**7
    assert download(address(server), tmp_path / "sounds.zip").read_bytes() == CONTENT
    assert set(server.asked) == {None}


def test_a_server_that_does_not_answer(tmp_path):
    with pytest.raises(UserError, match=r"Cannot download http://127\.0\.0\.1:9/x\.zip"):
        download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip")
