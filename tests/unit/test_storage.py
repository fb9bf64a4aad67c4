"""Kept files: what is written is read back, the same bytes each time, and torn files are named."""

import numpy as np
import pandas as pd
import pytest

from knatlas import storage
from knatlas.errors import AtlasError

FRAME = pd.DataFrame({"fact": ["P36:FI>Helsinki", "P36:FR>Paris"], "layer": [0, 3], "score": [0.25, 1.0]})
METADATA = {"languages": ["fi", "fr"], "model": {"revision": None}}


def test_a_table_comes_back_with_its_metadata(tmp_path):
    storage.write_table(FRAME, tmp_path / "t.parquet", METADATA)
    pd.testing.assert_frame_equal(storage.read_table(tmp_path / "t.parquet"), FRAME)
    assert storage.read_metadata(tmp_path / "t.parquet") == METADATA


def test_arrays_come_back_with_their_metadata(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros(2)}
    storage.write_arrays(arrays, tmp_path / "a.safetensors", METADATA)
    read, metadata = storage.read_arrays(tmp_path / "a.safetensors")
    assert set(read) == {"a", "b"} and metadata == METADATA
    np.testing.assert_array_equal(read["b"], arrays["b"])
    assert set(storage.read_arrays(tmp_path / "a.safetensors", names=["a"])[0]) == {"a"}


def test_a_transposed_array_is_stored_in_its_own_order(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    storage.write_arrays({"a": array}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(storage.read_arrays(tmp_path / "a.safetensors")[0]["a"], array)


@pytest.mark.parametrize("name", ["x.parquet", "x.safetensors", "x.csv"])
def test_the_same_content_gives_the_same_bytes(tmp_path, name):
    def write(folder):
        if name.endswith("parquet"):
            storage.write_table(FRAME, folder / name, METADATA)
        elif name.endswith("csv"):
            storage.write_csv(FRAME, folder / name)
        else:
            storage.write_arrays({"b": np.ones(3), "a": np.zeros(2)}, folder / name, METADATA)
        return (folder / name).read_bytes()

    assert write(tmp_path / "one") == write(tmp_path / "two")


def test_a_csv_has_markdown_beside_it(tmp_path):
    storage.write_csv(FRAME, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(storage.read_csv(tmp_path / "t.csv"), FRAME)
    assert "| P36:FR>Paris" in (tmp_path / "t.md").read_text()


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    storage.write_text("old", tmp_path / "t.txt")
    with pytest.raises(UnicodeEncodeError):
        storage.write_text("half \ud800", tmp_path / "t.txt")
    assert (tmp_path / "t.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize(
    ("name", "read", "content"),
    [
        ("t.parquet", storage.read_table, b"PAR1 torn"),
        ("t.safetensors", storage.read_arrays, b"PAR1 torn"),
        ("t.safetensors", storage.SlicedArrays, b"PAR1 torn"),
        ("t.csv", storage.read_csv, b""),
        ("t.csv", storage.read_csv, b'a,b\n1,"2'),
        ("t.csv", storage.read_csv, b"a,b\n1,\xff"),
        ("t.json", storage.read_json, b"\xff"),
    ],
)
def test_a_torn_file_is_named_with_what_to_do(tmp_path, name, read, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AtlasError, match=rf"{name} can't be read as .*; delete it and rerun"):
        read(tmp_path / name)


def test_a_torn_file_that_a_job_wrote_is_named_with_the_command_that_makes_it(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 torn")
    storage.write_json({"rule": "some_rule"}, f"{path}.provenance.json")
    with pytest.raises(AtlasError, match=rf"can't be read as parquet .*; make it again: snakemake .* -- {path}$"):
        storage.read_table(path)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(AtlasError, match="is not there; run the rule that makes it: snakemake"):
        storage.read_table(tmp_path / "t.parquet")


def test_broken_json_names_the_line(tmp_path):
    (tmp_path / "j.json").write_text("{\n oops")
    with pytest.raises(AtlasError, match="line 2 is not JSON"):
        storage.read_json(tmp_path / "j.json")


def test_arrays_written_block_by_block_are_those_written_at_once(tmp_path):
    arrays = {
        "odd": np.arange(3, dtype=np.int32),
        "wide": np.linspace(0, 1, 8).reshape(2, 2, 2),
        "rows": np.arange(12, dtype=np.float32).reshape(4, 3),
    }
    layout = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    blocks = [("rows", 3 * i, arrays["rows"][i]) for i in (2, 0, 3, 1)]
    blocks += [("wide", 4, arrays["wide"][1]), ("wide", 0, arrays["wide"][0]), ("odd", 0, arrays["odd"])]
    storage.write_array_blocks(layout, blocks, tmp_path / "blocks.safetensors", {"facts": ["ä"]})
    found, metadata = storage.read_arrays(tmp_path / "blocks.safetensors")
    assert metadata == {"facts": ["ä"]} and set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    sliced = storage.SlicedArrays(tmp_path / "blocks.safetensors")
    assert (sliced.kind("odd"), sliced.shape("rows"), len(sliced)) == ("int32", (4, 3), 3)
    np.testing.assert_array_equal(sliced["rows"][1:2], arrays["rows"][1:2])


def test_elements_that_no_block_holds_are_zero_and_a_failure_leaves_no_file(tmp_path):
    path = tmp_path / "a.safetensors"
    storage.write_array_blocks({"a": ("float32", (2, 2))}, [("a", 2, np.ones(2))], path)
    assert storage.read_arrays(path)[0]["a"].tolist() == [[0, 0], [1, 1]]
    path.unlink()
    with pytest.raises(KeyError):
        storage.write_array_blocks({"a": ("float32", (2,))}, [("b", 0, np.ones(2))], path)
    assert list(tmp_path.iterdir()) == []
