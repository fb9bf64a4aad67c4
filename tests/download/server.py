"""A server on this machine that offers a data set: an archive of a commit, and a single file."""

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from knatlas.errors import AtlasError
from knatlas.facts.download import download_dataset

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROW = {
    "repository": "someone/facts",
    "commit": COMMIT,
    "licence": "CC0",
    "paths": {"data/en": "tuples/en", "README.md": "about.md", "ids/P*.jsonl": "identities"},
}
FILE = b'[{"case_id": 0}]\n'
FILES = {
    "README.md": b"read me",
    "data/en/P36.jsonl": b"{}\n",
    "data/en/deep/P37.jsonl": b"[]\n",
    "data/english/P36.jsonl": b"not wanted",
    "ids/P1.jsonl": b"1",
    "ids/templates.jsonl": b"not wanted",
}


def packed(files, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(f"facts-{COMMIT}/", "")
        for name, content in files.items():
            archive.writestr(f"facts-{COMMIT}/{name}", content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Answers the archive's path with `body`, that of a single file with `file`, and sends /moved on to `target`.

    Says `length` bytes where that is set.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.file, self.target, self.length = packed(FILES), FILE, "", None
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", self.server.target)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        bodies = {f"/someone/facts/archive/{COMMIT}.zip": self.server.body, "/dsets/facts.json": self.server.file}
        if self.path not in bodies:
            return self.send_error(404)
        self.send_response(200)
        if self.server.length != "unsaid":
            self.send_header("Content-Length", str(self.server.length or len(bodies[self.path])))
        self.end_headers()
        self.wfile.write(bodies[self.path])

    def log_message(self, *arguments):
        """Keep the test's output quiet."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server that answers while this is open."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def refused(row, folder, server):
    with pytest.raises(AtlasError) as caught:
        download_dataset(row, folder, address=server.address)
    return str(caught.value)


def row_of_file(server):
    """A row that names one file."""
    return {"url": f"{server.address}/dsets/facts.json", "file": "kept.json", "licence": "CC0"}
