"""Whether disks are large enough: added up by disk, with a margin, on the folder that will hold the path."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.cache import room
from mastaf.cache.errors import CacheError, StoppedError
from mastaf.cache.room import lacking_room, nearest_folder, require_room

MIB = 1 << 20


def test_the_nearest_folder_is_the_one_that_exists(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    assert nearest_folder(tmp_path / "a" / "b" / "c.zarr") == tmp_path / "a"
    assert nearest_folder(tmp_path / "c.zarr") == tmp_path
    monkeypatch.chdir(tmp_path)
    assert nearest_folder(Path("x/y.zarr")) == tmp_path
    assert room.free_bytes(tmp_path / "no" / "such") > 0
    (tmp_path / "link.zarr").symlink_to(tmp_path / "a" / "c.zarr")
    assert nearest_folder(tmp_path / "link.zarr") == tmp_path / "a"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_what_is_no_disk_is_not_full(tmp_path):
    with pytest.raises(CacheError, match="takes no files"):
        require_room([(Path("/proc/s.zarr"), 1)], remedy="")
    require_room([(Path("/proc/s.zarr"), 0)], remedy="")


@given(st.lists(st.integers(0, 1 << 40), max_size=4), st.integers(0, 1 << 41))
def test_a_disk_must_hold_all_of_it_and_a_margin(needs, free):
    usage = type("Usage", (), {"total": 1 << 50, "free": free})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _path: usage)
        lack = lacking_room([(Path(f"/{i}.zarr"), n) for i, n in enumerate(needs)])
    total = sum(needs)
    needed = total + max(total // 100, 16 * MIB)
    assert bool(lack) == (total > 0 and needed > free)
    assert not lack or (f"{free} bytes" in lack and f"{needed} (" in lack)


def test_disks_are_told_apart(tmp_path, monkeypatch):
    """Two file systems: what does not fit one is no matter of the other."""
    disks = {tmp_path / "small": 20 * MIB, tmp_path / "large": 1000 * MIB}
    for folder in disks:
        folder.mkdir()
    stat = Path.stat

    def on_two_disks(self, **how):
        found = stat(self, **how)
        if self not in disks:
            return found
        return type("Stat", (), {"st_dev": list(disks).index(self), "st_mode": found.st_mode})

    monkeypatch.setattr(Path, "stat", on_two_disks)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"total": 1 << 50, "free": disks[path]}))
    small, large = tmp_path / "small" / "s.zarr", tmp_path / "large" / "s.zarr"
    require_room([(small, 3 * MIB), (large, 900 * MIB)], remedy="")
    with pytest.raises(StoppedError, match=r"large/s.zarr, .*large/t.zarr has .*; use another"):
        require_room([(large, 900 * MIB), (small, MIB), (large.with_name("t.zarr"), 100 * MIB)], remedy="use another")
    with pytest.raises(StoppedError, match=r"small/s.zarr has 20971520 bytes"):
        require_room([(small, 5 * MIB)], remedy="")
