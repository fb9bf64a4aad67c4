"""A data set arrives whole or not at all, and the same as before; from a server on this machine."""

import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.download import digest, download_dataset, place_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROW = {
    "repository": "someone/facts",
    "commit": COMMIT,
    "licence": "CC0",
    "paths": {"data/en": "tuples/en", "README.md": "about.md", "ids/P*.jsonl": "identities"},
}
FILES = {
    "README.md": b"read me",
    "data/en/P36.jsonl": b"{}\n",
    "data/en/deep/P37.jsonl": b"[]\n",
    "data/english/P36.jsonl": b"not wanted",
    "ids/P1.jsonl": b"1",
    "ids/templates.jsonl": b"not wanted",
}


def packed(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"facts-{COMMIT}/", "")
        for name, content in files.items():
            archive.writestr(f"facts-{COMMIT}/{name}", content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Answers one path with `body`; says `length` bytes where that is set."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.length = packed(FILES), None
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != f"/someone/facts/archive/{COMMIT}.zip":
            return self.send_error(404)
        self.send_response(200)
        if self.server.length != "unsaid":
            self.send_header("Content-Length", str(self.server.length or len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *arguments):
        """Keep the test's output quiet."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "facts"


def refused(row, folder, server):
    with pytest.raises(AtlasError) as caught:
        download_dataset(row, folder, address=server.address)
    return str(caught.value)


def test_only_the_paths_of_the_row_are_kept(server, folder):
    record = download_dataset(ROW, folder, address=server.address)
    kept = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert kept == {
        "about.md": b"read me",
        "tuples/en/P36.jsonl": b"{}\n",
        "tuples/en/deep/P37.jsonl": b"[]\n",
        "identities/P1.jsonl": b"1",
    }
    assert record["n_files"] == 4 and record["repository"] == "someone/facts" and record["licence"] == "CC0"
    assert record["url"] == f"{server.address}/someone/facts/archive/{COMMIT}.zip"
    assert json.loads((folder.parent / "facts.download.json").read_text()) == record
    assert sorted(path.name for path in folder.parent.iterdir()) == ["facts", "facts.download.json"]


def test_the_digest_is_that_of_paths_and_contents(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    # sha256sum a b/x | sha256sum
    assert digest(tmp_path) == "15bf0fec1c6e0df52b576c07ef97a86b0542f6c1aae17f7864a9a66ac8f5e83b"


def test_a_later_download_of_the_same_files_is_accepted_though_packed_otherwise(server, tmp_path, folder):
    first = download_dataset(ROW, folder, address=server.address)
    folder.rename(tmp_path / "aside")
    server.body = packed(dict(reversed(FILES.items())))
    second = download_dataset(ROW, folder, address=server.address)
    assert second["sha256"] == first["sha256"] and second["archive_sha256"] != first["archive_sha256"]


def test_a_later_download_of_other_files_is_refused(server, tmp_path, folder):
    first = download_dataset(ROW, folder, address=server.address)
    folder.rename(tmp_path / "aside")
    server.body = packed(FILES | {"ids/P1.jsonl": b"2"})
    sentence = refused(ROW, folder, server)
    assert f"those of an earlier download had {first['sha256']}" in sentence and "delete that record" in sentence
    assert [path.name for path in folder.parent.iterdir()] == ["facts.download.json"]
    assert json.loads((folder.parent / "facts.download.json").read_text()) == first


def test_files_that_the_catalog_does_not_expect_are_refused(server, folder):
    sentence = refused(ROW | {"sha256": "0" * 64}, folder, server)
    assert f"catalog/datasets.yaml expects {'0' * 64}" in sentence
    assert list(folder.parent.iterdir()) == []
    expected = download_dataset(ROW, folder, address=server.address)["sha256"]
    assert download_dataset(ROW | {"sha256": expected}, folder.with_name("again"), address=server.address)


@pytest.mark.parametrize("length", [None, "unsaid"])
def test_progress_ends_at_the_last_byte(server, folder, length):
    seen = []
    server.length = length
    server.body = packed(FILES | {"README.md": bytes(3 << 20)})
    download_dataset(ROW, folder, lambda *report: seen.append(report), server.address)
    assert [done for done, _, _ in seen][-1] == 3
    assert seen[-1][1] == (3 if length is None else 4)


def test_a_download_cut_short_leaves_nothing(server, folder):
    server.length = len(server.body) + 1000
    sentence = refused(ROW, folder, server)
    assert "could not be downloaded" in sentence and "nothing was kept" in sentence
    assert list(folder.parent.iterdir()) == []


def test_a_broken_archive_leaves_nothing(server, folder):
    server.body = server.body[:-30]
    assert "no whole zip archive" in refused(ROW, folder, server)
    assert list(folder.parent.iterdir()) == []


def test_a_damaged_member_leaves_nothing(server, folder):
    server.body = server.body.replace(b"read me", b"reed me")
    assert "no whole zip archive" in refused(ROW, folder, server)
    assert list(folder.parent.iterdir()) == []


def test_without_network_the_sentence_says_which_folder_to_give(server, folder):
    server.shutdown()
    server.server_close()
    sentence = refused(ROW, folder, server)
    assert "could not be downloaded" in sentence
    assert "give the folder that contains 'facts' as facts.folder" in sentence


def test_an_unknown_commit_is_told_from_a_missing_network(server, folder):
    sentence = refused(ROW | {"commit": "f" * 40}, folder, server)
    assert "answered 404" in sentence and "catalog/datasets.yaml" in sentence


def test_paths_that_the_archive_lacks_are_all_named(server, folder):
    sentence = refused(ROW | {"paths": {"data/fr": "fr", "ids/Q*.jsonl": "ids", "README.md": "r"}}, folder, server)
    assert "no file at 'data/fr'" in sentence and "no file at 'ids/Q*.jsonl'" in sentence
    assert "README" not in sentence and list(folder.parent.iterdir()) == []


def test_a_folder_in_use_is_left_alone(server, folder):
    folder.mkdir(parents=True)
    download_dataset(ROW, folder, address=server.address)
    before = digest(folder)
    assert "is there already" in refused(ROW, folder, server)
    assert digest(folder) == before


def test_a_member_that_climbs_out_of_the_archive_is_not_unpacked(server, folder):
    server.body = packed({"data/en/../../../evil": b"x", **FILES})
    download_dataset(ROW, folder, address=server.address)
    assert not list(folder.parent.parent.rglob("evil"))
    assert place_of("data/en/../../evil", "data/en", "en") is None


def test_rows_of_the_catalog_are_complete():
    rows = read_catalog("datasets")
    assert list(rows) == ["mpararel", "multilingual_pararel", "pararel"]
    for row in rows.values():
        assert set(row) == {"name", "repository", "commit", "licence", "use", "sha256", "paths"}
        assert len(row["commit"]) == 40 and len(row["sha256"]) == 64 and row["repository"].count("/") == 1
        assert len(set(row["paths"].values())) == len(row["paths"])
    folders = set(rows["mpararel"]["paths"].values())
    for code in (row["mpararel"] for row in read_catalog("languages").values()):
        assert {f"patterns/{code}", f"tuples/{code}"} <= folders


@pytest.mark.parametrize("name", ["mpararel", "pararel"])
def test_the_digest_of_the_catalog_is_that_of_the_real_data(shared_data, name):
    assert digest(shared_data / name) == read_catalog("datasets")[name]["sha256"]
