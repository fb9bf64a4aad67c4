"""What a host, an archive or a row of the catalog could do to this machine, and does not."""

import io
import zipfile
from urllib.request import Request

import pytest

from knatlas.errors import AtlasError
from knatlas.facts.download import download_dataset, place_of
from knatlas.facts.fetching import WebRedirects, check_address

from .server import COMMIT, FILE, FILES, ROW, packed, refused


def test_a_member_that_climbs_out_of_the_archive_is_not_unpacked(server, folder):
    server.body = packed({"data/en/../../../evil": b"x", **FILES})
    download_dataset(ROW, folder, address=server.address)
    assert not list(folder.parent.parent.rglob("evil"))
    assert place_of("data/en/../../evil", "data/en", "en") is None


@pytest.mark.parametrize("length", [None, "unsaid"])
def test_a_download_larger_than_an_earlier_one_is_given_up(server, tmp_path, folder, one, length):
    download_dataset(one, folder)
    folder.rename(tmp_path / "aside")
    server.file, server.length = bytes(5 << 20), length
    seen = []
    with pytest.raises(
        AtlasError, match=r"more than 17 bytes, which those of an earlier download had.*delete that record"
    ):
        download_dataset(one, folder, lambda *report: seen.append(report))
    assert len(seen) == 1, "all chunks were read, though the first was too much"
    assert [path.name for path in folder.parent.iterdir()] == ["facts.download.json"]


def test_the_size_that_the_catalog_names_is_the_limit(server, folder, one):
    sentence = refused(one | {"n_bytes": len(FILE) - 1}, folder, server)
    assert "which catalog/datasets.yaml says the files have (n_bytes)" in sentence
    assert download_dataset(one | {"n_bytes": len(FILE)}, folder)["n_bytes"] == len(FILE)


def test_an_archive_that_unpacks_to_more_than_is_known_of_is_not_unpacked(server, tmp_path, folder):
    first = download_dataset(ROW, folder, address=server.address)
    assert first["n_bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    folder.rename(tmp_path / "aside")
    server.body = packed(FILES | {"ids/P1.jsonl": bytes(20 << 20)}, zipfile.ZIP_DEFLATED)
    assert len(server.body) < 1 << 20
    assert f"has more than {first['n_bytes']} bytes" in refused(ROW, folder, server)
    assert [path.name for path in folder.parent.iterdir()] == ["facts.download.json"]


def test_a_link_in_an_archive_is_unpacked_as_a_text(server, folder):
    link = zipfile.ZipInfo(f"facts-{COMMIT}/data/en/link")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO(packed(FILES))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    server.body = buffer.getvalue()
    download_dataset(ROW, folder, address=server.address)
    path = folder / "tuples" / "en" / "link"
    assert not path.is_symlink() and path.read_text() == "/etc/passwd"


@pytest.mark.parametrize("target", ["../evil", "/tmp/evil", "a/../../evil", "."])
def test_a_row_can_not_name_a_place_outside_its_folder(server, folder, one, target):
    assert f"a file is to be kept as '{target}'" in refused(one | {"file": target}, folder, server)
    assert f"a file is to be kept as '{target}'" in refused(ROW | {"paths": {"README.md": target}}, folder, server)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("scheme", ["file", "ftp", ""])
def test_only_https_is_asked(server, folder, one, tmp_path, scheme):
    (tmp_path / "secret").write_text("not to be read")
    address = f"{scheme}://127.0.0.1{tmp_path / 'secret'}" if scheme else str(tmp_path / "secret")
    if scheme == "file":
        address = (tmp_path / "secret").as_uri()
    assert f"an address is '{address}'; expected one that begins with https" in refused(
        one | {"url": address}, folder, server
    )
    assert list(folder.parent.iterdir()) == []


def test_plain_http_is_asked_of_this_machine_alone():
    for address in ("http://127.0.0.1:8000/x", "http://localhost/x", "http://[::1]/x", "https://example.org/x"):
        check_address(address)
    for address in ("http://example.org/x", "http://127.0.0.1.example.org/x", "HTTP://example.org", "//example.org/x"):
        with pytest.raises(AtlasError, match="expected one that begins with https"):
            check_address(address)


def test_an_address_with_a_password_is_refused_without_repeating_it(server, folder, one):
    address = one["url"].replace("127.0.0.1", "me:pass-word@127.0.0.1")
    sentence = refused(one | {"url": address}, folder, server)
    assert "holds a user or a password" in sentence and "pass-word" not in sentence


def test_a_redirection_is_followed_to_https_or_on_this_machine_alone(server, folder, one, tmp_path):
    (tmp_path / "secret").write_text("not to be read")
    moved = one | {"url": f"{server.address}/moved"}
    for target in ("ftp://127.0.0.1/facts.json", "http://example.org/facts.json"):
        server.target = target
        assert f"an address is '{target}'" in refused(moved, folder, server)
    server.target = (tmp_path / "secret").as_uri()
    assert "answered 302" in refused(moved, folder, server)
    assert list(folder.parent.iterdir()) == []
    server.target = one["url"]
    assert download_dataset(moved, folder)["n_bytes"] == len(FILE)


def test_another_machine_does_not_send_this_one_to_itself():
    with pytest.raises(AtlasError, match=r"an address is 'http://127\.0\.0\.1/x'"):
        WebRedirects().redirect_request(Request("https://example.org"), None, 302, "Found", {}, "http://127.0.0.1/x")
