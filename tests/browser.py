"""Opens pages in headless Chromium at the width of a phone, and names what is wrong with them.

  python -m tests.browser runs/quickstart/report index.html
  python -m tests.browser site index.html tutorials/own_sounds.html

The first argument is the folder of the report or site; the others are its pages. Wrong are errors
in the console, files that are missing, a page wider than the screen, sound that does not play, and
links within the folder that lead nowhere. The exit code is then 1.
"""

import contextlib
import functools
import http.server
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 390, 844  # CSS pixels of a common phone
_SECONDS = 120  # until the browser must have answered

# The page sees these names of the server only here.
_FRAME, _FOUND = "/_frame", "/_found"

# Before the first script of the page: collects errors.
_LISTEN = """<script>
window.wrong = [];
addEventListener("error", e => wrong.push(
    e.message || `cannot be loaded: ${e.target.src || e.target.href}`.slice(0, 200)), true);
addEventListener("unhandledrejection", e => wrong.push(`not handled: ${e.reason}`));
console.error = (...words) => wrong.push(`console: ${words.join(" ")}`);
</script>"""

_CHECK = f"""<!doctype html><title>Check</title>
<iframe width="{WIDTH}" height="{HEIGHT}" style="border: 0"></iframe>
<script>
const frame = document.querySelector("iframe");
const within = (promise, seconds) => Promise.race([promise, new Promise((_, no) =>
    setTimeout(() => no(`nothing in ${{seconds}} s`), 1e3 * seconds))]);

async function check(page, wrong) {{
    const wide = page.documentElement.scrollWidth;
    if (wide > {WIDTH}) wrong.push(`the page is ${{wide}} pixels wide on a screen of {WIDTH}`);
    for (const link of page.querySelectorAll("a[href]")) {{
        const target = new URL(link.href);
        if (target.origin !== location.origin) continue;
        const id = decodeURIComponent(target.hash.slice(1));
        if (target.pathname === frame.contentWindow.location.pathname)
            id && !page.getElementById(id) && wrong.push(`a link to no part of the page: #${{id}}`);
        else if (!(await fetch(target, {{method: "HEAD"}})).ok)
            wrong.push(`a link to no file: ${{link.getAttribute("href")}}`);
    }}
    for (const [i, audio] of [...page.querySelectorAll("audio")].entries()) {{
        audio.muted = true;
        const heard = new Promise(yes => audio.addEventListener("timeupdate", () =>
            audio.currentTime > 0 && yes()));
        try {{
            await within(audio.play(), 10);
            await within(heard, 10);
            audio.pause();
        }} catch (error) {{
            wrong.push(`sound ${{i + 1}} does not play: ${{error}}`);
        }}
    }}
}}

frame.onload = async () => {{
    const wrong = frame.contentWindow.wrong || ["the page cannot be read"];
    await check(frame.contentDocument, wrong).catch(error => wrong.push(`${{error}}`));
    await fetch("{_FOUND}", {{method: "POST", body: JSON.stringify(wrong)}});
}};
frame.src = "/PAGE";
</script>"""


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, the page of the check, and takes what the check has found."""

    def __init__(self, *arguments, folder: Path, page: str, found: "queue.Queue[list[str]]"):
        self.folder, self.page, self.found = folder, page, found
        super().__init__(*arguments, directory=str(folder))

    def do_GET(self) -> None:
        if self.path == _FRAME:
            self._send(_CHECK.replace("PAGE", self.page))
        elif self.path == f"/{self.page}":
            text = (self.folder / self.page).read_text(encoding="utf-8")
            self._send(text.replace("<head>", f"<head>{_LISTEN}", 1))
        elif self.path == "/favicon.ico":
            self.send_error(204)
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send("")

    def _send(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        """Prints nothing."""


def browser() -> str | None:
    """Returns the path of an installed browser; None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def problems(folder: Path, page: str) -> list[str]:
    """Returns what is wrong with a page of a folder, one text each."""
    found: queue.Queue[list[str]] = queue.Queue()
    handler = functools.partial(_Handler, folder=folder.resolve(), page=page, found=found)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with _opened(f"http://127.0.0.1:{server.server_port}{_FRAME}"):
            try:
                return found.get(timeout=_SECONDS)
            except queue.Empty:
                return [f"the browser did not answer in {_SECONDS} s"]
            finally:
                server.shutdown()


@contextlib.contextmanager
def _opened(address: str) -> Iterator[None]:
    """Opens an address in a browser with an empty profile."""
    program = browser()
    assert program is not None, f"Install one of {', '.join(BROWSERS)}."
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--disable-gpu", "--mute-audio", "--no-first-run"]
        flags += ["--no-sandbox"]  # which needs rights that containers lack; the page is our own
        flags += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [program, *flags, "--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    folder, *pages = sys.argv[1:]
    wrong = [f"{page}: {problem}" for page in pages for problem in problems(Path(folder), page)]
    print(*wrong, sep="\n", end="\n" * bool(wrong), file=sys.stderr)
    sys.exit(bool(wrong))
