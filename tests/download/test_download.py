"""A data set arrives whole or not at all, and the same as before; from a server on this machine."""

import hashlib
import json

import pytest

from knatlas.catalog import read_catalog
from knatlas.facts.download import digest, download_dataset

from .server import COMMIT, FILE, FILES, ROW, packed, refused


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


def test_a_single_file_arrives_under_its_name_with_the_digest_of_its_bytes(server, folder, one):
    record = download_dataset(one, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"kept.json": FILE}
    assert record == {
        "url": one["url"],
        "file": "kept.json",
        "licence": "CC0",
        "n_files": 1,
        "n_bytes": len(FILE),
        "sha256": hashlib.sha256(FILE).hexdigest(),
    }
    assert json.loads((folder.parent / "facts.download.json").read_text()) == record
    assert sorted(path.name for path in folder.parent.iterdir()) == ["facts", "facts.download.json"]


def test_a_single_file_with_another_digest_than_the_catalogs_is_refused(server, folder, one):
    sentence = refused(one | {"sha256": "0" * 64}, folder, server)
    assert f"catalog/datasets.yaml expects {'0' * 64}" in sentence and list(folder.parent.iterdir()) == []
    assert download_dataset(one | {"sha256": hashlib.sha256(FILE).hexdigest()}, folder)["n_files"] == 1


def test_the_first_download_of_a_single_file_counts(server, tmp_path, folder, one):
    first = download_dataset(one, folder)
    folder.rename(tmp_path / "aside")
    server.file = FILE.replace(b"0", b"1")
    sentence = refused(one, folder, server)
    assert f"those of an earlier download had {first['sha256']}" in sentence and "delete that record" in sentence
    assert [path.name for path in folder.parent.iterdir()] == ["facts.download.json"]
    server.file = FILE
    assert download_dataset(one, folder) == first


def test_a_single_file_cut_short_leaves_nothing(server, folder, one):
    server.length = len(FILE) + 1
    sentence = refused(one, folder, server)
    assert "could not be downloaded" in sentence and f"put it at {folder / 'kept.json'}" in sentence
    assert list(folder.parent.iterdir()) == []
    sentence = refused(one | {"setting": "experiments.counted.file"}, folder, server)
    assert "give its path as experiments.counted.file in the configuration" in sentence


def test_an_unknown_file_is_told_from_a_missing_network(server, folder, one):
    sentence = refused(one | {"url": f"{server.address}/dsets/other.json"}, folder, server)
    assert "answered 404" in sentence and "expected a file. Compare the url of the row" in sentence


def test_a_data_set_behind_an_account_says_where_it_is_and_which_key_takes_its_path(server, tmp_path):
    row = read_catalog("datasets")["punctuation"]
    sentence = refused(row, tmp_path / "data" / "punctuation", server)
    assert "'English Dataset for Punctuation Prediction' can't be downloaded by a rule" in sentence
    assert "Kaggle" in sentence and "English-OPUS.txt" in sentence
    assert "give its path as experiments.punctuation.corpus in the configuration" in sentence
    assert not (tmp_path / "data").exists()


def test_rows_of_repositories_are_complete():
    rows = {name: row for name, row in read_catalog("datasets").items() if "repository" in row}
    assert list(rows) == ["mpararel", "multilingual_pararel", "pararel"]
    for row in rows.values():
        assert set(row) - {"n_bytes"} == {"name", "repository", "commit", "licence", "use", "sha256", "paths"}
        assert len(row["commit"]) == 40 and len(row["sha256"]) == 64 and row["repository"].count("/") == 1
        assert len(set(row["paths"].values())) == len(row["paths"])
    folders = set(rows["mpararel"]["paths"].values())
    for code in (row["mpararel"] for row in read_catalog("languages").values()):
        assert {f"patterns/{code}", f"tuples/{code}"} <= folders


def test_other_rows_name_one_file_or_say_how_to_get_it():
    rows = {name: row for name, row in read_catalog("datasets").items() if "repository" not in row}
    assert list(rows) == ["counterfact", "known_1000", "punctuation"]
    for name in ("counterfact", "known_1000"):
        assert set(rows[name]) - {"sha256", "setting"} == {"name", "url", "file", "licence", "use"}
        assert rows[name]["url"].startswith("https://") and rows[name]["url"].endswith(f"/{rows[name]['file']}")
    assert len(rows["counterfact"]["sha256"]) == 64 and "sha256" not in rows["known_1000"]
    assert set(rows["punctuation"]) == {"name", "licence", "use", "instructions", "setting"}


@pytest.mark.parametrize("name", ["mpararel", "pararel"])
def test_digest_and_size_of_the_catalog_are_those_of_the_real_data(shared_data, name):
    row, files = read_catalog("datasets")[name], [path for path in (shared_data / name).rglob("*") if path.is_file()]
    assert digest(shared_data / name) == row["sha256"]
    assert sum(path.stat().st_size for path in files) == row["n_bytes"]
