"""Files and folders appear whole or not at all, and what keeps them from being written is a sentence."""

import errno
import os
import re
import resource
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from knatlas import storage
from knatlas.errors import AtlasError
from knatlas.writing import partials, replacing, unwritable

BIG = np.random.default_rng(0).random(10_000)


@contextmanager
def files_of_at_most(n_bytes):
    """The system refuses longer files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(path):
    {
        ".parquet": lambda: storage.write_table(pd.DataFrame({"score": BIG}), path),
        ".safetensors": lambda: storage.write_arrays({"score": BIG}, path),
        ".csv": lambda: storage.write_csv(pd.DataFrame({"score": BIG}), path),
        ".json": lambda: storage.write_json({"score": BIG.tolist()}, path),
    }[path.suffix]()


@pytest.mark.parametrize("ending", ["parquet", "safetensors", "csv", "json"])
def test_a_file_that_the_system_cuts_off_is_a_sentence_and_the_old_one_stays(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    path.write_text("old")
    with files_of_at_most(20_000), pytest.raises(AtlasError) as caught:
        write(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} can't be written: it is larger than the system allows (")
    assert "MB are free in" in sentence and sentence.endswith("run the same command again: what is finished stays.")
    assert path.read_text() == "old" and os.listdir(tmp_path) == [path.name]


def test_a_full_disk_is_a_sentence_that_says_how_much_is_free_where(tmp_path):
    with pytest.raises(AtlasError) as caught, replacing(tmp_path / "deep" / "t.txt"), open("/dev/full", "w") as full:
        full.write("x")
        full.flush()
    said = (
        rf"t.txt can't be written: the disk is full \([\d,]+\.\d MB are free in {tmp_path}/deep\). Free some space, and"
    )
    assert re.search(said, str(caught.value))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "your quota there is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "you may not write there"),
    ],
)
def test_what_forbids_writing_is_named(tmp_path, number, reason):
    rust = RuntimeError(f"Error while serializing: I/O error: some words (os error {number})")
    for error in (OSError(number, "words"), rust):
        assert f"x.parquet can't be written: {reason} (" in unwritable(tmp_path / "a" / "x.parquet", error)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "disk broken"), KeyError("os"), OSError("without a number")])
def test_other_errors_pass_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, replacing(tmp_path / "x"):
        raise error
    assert caught.value is error and os.listdir(tmp_path) == []


def test_a_folder_appears_whole_in_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "weights"
    for content in ("old", "new"):
        with replacing(folder) as partial:
            (partial / "deep").mkdir(parents=True)
            (partial / "deep" / content).write_text(content)
            assert not (folder / "deep" / content).exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["weights", "deep", "new"]
    with pytest.raises(ZeroDivisionError), replacing(folder) as partial:
        partial.mkdir()
        _ = 1 / 0
    assert [path.name for path in tmp_path.rglob("*")] == ["weights", "deep", "new"]


def test_what_a_killed_writer_left_is_listed_and_after_a_day_removed_by_the_next_of_the_name(tmp_path):
    left, young, other = (tmp_path / f".{name}-9" for name in ("t.txt.partial", "t.txt.partial-8", "u.txt.partial"))
    for path in (left, young, other):
        path.write_text("half")
    for path in (left, other):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    assert partials(tmp_path) == sorted([left, young, other])
    storage.write_text("whole", tmp_path / "t.txt")
    assert partials(tmp_path) == sorted([young, other])


def test_two_writers_of_one_name_have_different_temporary_files(tmp_path):
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one" and partials(tmp_path) == []
