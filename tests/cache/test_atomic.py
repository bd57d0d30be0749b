"""Files appear whole or not at all."""

import json
import os
import stat

import pytest
from mastaf.cache.atomic import atomic_path, atomic_write, remove_leftovers, write_bytes, write_json, write_parts


def test_what_is_written_is_there(tmp_path):
    write_bytes(tmp_path / "a", b"one")
    write_parts(tmp_path / "b", [b"t", memoryview(b"wo")])
    write_json(tmp_path / "c.json", {"ä": [1, None]})
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"onetwo"
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == {"ä": [1, None]}
    assert len(list(tmp_path.iterdir())) == 3


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    write_bytes(target, b"old")
    with pytest.raises(KeyError), atomic_write(target) as stream:
        stream.write(b"half of the n")
        raise KeyError
    with pytest.raises(ValueError, match="JSON"):
        write_json(target, float("nan"))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_without_a_folder_is_named_as_it_was_given(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_json(tmp_path / "nowhere" / "x.json", 1)
    assert caught.value.filename == str(tmp_path / "nowhere" / "x.json")


def test_the_name_appears_at_the_end_and_keeps_its_suffix(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.suffix == ".txt"
        assert temporary.parent == tmp_path
        assert not target.exists()
    assert target.read_bytes() == b"new"


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
        with atomic_path(tmp_path / "b") as temporary:
            # As libraries do: a new file, readable by its owner alone, in place of the one that they were given.
            (tmp_path / "library's").write_bytes(b"x")
            (tmp_path / "library's").chmod(0o600)
            (tmp_path / "library's").replace(temporary)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640, 0o640]


def test_leftovers_of_one_file_are_removed(tmp_path):
    for name in (".a.h5.x1.h5", ".a.h5.x2.h5", ".aa.h5.x.h5", "a.h5", ".a.h5"):
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path / "a.h5")
    assert {path.name for path in tmp_path.iterdir()} == {".aa.h5.x.h5", "a.h5", ".a.h5"}
