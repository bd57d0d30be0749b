"""`--recheck`: the same rows made again and compared, with nothing written."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from mastaf.cache.errors import CacheError, SpecMismatchError
from mastaf.cache.index import DONE, VideoIndex
from mastaf.cache.spec import STORE_DTYPES
from mastaf.cache.store import open_store
from mastaf.extract import provenance as provenance_module
from mastaf.extract.errors import ExtractError
from mastaf.extract.looks.recheck import recheck_store
from mastaf.extract.looks.recheck_text import recheck_lines
from mastaf.extract.run import extract

HOW = {"precision": "fp32", "device": "cpu", "progress": False}
VIEWS = ("plain", "flip")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def store_dtype():
    return "float16"


@pytest.fixture
def out(tmp_path, tiny_videos, tiny_backbone, tiny_decoder, store_dtype):
    """A store of 23 rows in two views, of which one failed."""
    tiny_decoder.broken = {"train/1/3.mp4": "torn"}
    layout = {"shard_rows": 6, "batch": 4, "views": ("plain", "flip"), "store_dtype": store_dtype}
    extract(tiny_videos(), tiny_backbone(), out=tmp_path / "s.zarr", **layout, **HOW)
    tiny_decoder.broken, tiny_decoder.calls = {}, []
    return tmp_path / "s.zarr"


@pytest.fixture
def again(out, tiny_videos, tiny_backbone, store_dtype):
    def run(count, backbone=None, **changes):
        how = {"views": ("plain", "flip"), "store_dtype": store_dtype, **HOW, **changes}
        return recheck_store(tiny_videos(), backbone or tiny_backbone(), out=out, count=count, **how)

    return run


@pytest.mark.parametrize("store_dtype", STORE_DTYPES)
def test_an_unchanged_world_gives_the_same_bits_and_writes_nothing(out, again, tiny_decoder):
    before = {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}
    found = again(1000)
    done = np.flatnonzero(open_store(out).states() == DONE).tolist()
    assert [row.row for row in found.rows] == done
    assert all(row.same_bits and row.max_error == 0 and not row.off for row in found.rows)
    assert (found.done, found.changed, found.off) == (22, {}, [])
    assert found.least_cosine == pytest.approx(1)
    assert {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()} == before
    lines = "\n".join(recheck_lines(found))
    assert "22 of 22 rows; 22 have the same bits" in lines
    assert "cause" not in lines


def test_the_seed_draws_the_rows(again, tiny_decoder):
    drawn = {seed: [row.key for row in again(5, seed=seed).rows] for seed in (0, 1)}
    assert drawn[0] == [row.key for row in again(5, seed=0).rows] != drawn[1]
    assert len(tiny_decoder.calls) == 15
    assert "train/1/3.mp4" not in tiny_decoder.calls  # it failed, and has no cube to compare with


def test_a_row_that_is_off_is_named_with_its_errors(out, again, tiny_decoder, tiny_backbone, monkeypatch):
    clip, odd = tiny_decoder.clip, "val/1/9.mp4"
    monkeypatch.setattr(tiny_decoder, "clip", lambda key: clip("another" if key == odd else key))
    found = again(22)
    assert [row.key for row in found.off] == [odd]
    (row,) = found.off
    views = [clip("another"), np.ascontiguousarray(clip("another")[:, :, ::-1])]
    cosines, errors = [], []
    for view, pixels in enumerate(views):
        with torch.no_grad():
            new = tiny_backbone().forward(torch.from_numpy(pixels)[None])[0].numpy().astype(np.float16)  # [c, t, h, w]
        a, b = (x.astype(np.float64).ravel() for x in (open_store(out).read([row.row], view=view)[0], new))
        cosines.append(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
        errors.append(max(abs(x - y) for x, y in zip(a, b, strict=True)))
    assert row.cosine == pytest.approx(min(cosines), abs=1e-3)
    assert row.max_error == pytest.approx(max(errors), abs=1e-2)
    assert (found.max_error, found.least_cosine) == (row.max_error, row.cosine)
    assert sum(other.same_bits for other in found.rows) == 21
    lines = "\n".join(recheck_lines(found))
    assert f"off: {odd} (row {row.row}): cosine {row.cosine:.6f}" in lines
    assert "neither device nor versions changed" in lines
    assert json.loads(json.dumps(found.to_json()))["off"] == 1


def test_a_video_that_is_gone_counts_as_off(again, tiny_decoder):
    tiny_decoder.broken = {"train/0/0.mp4": "cannot be opened: No such file or directory"}
    found = again(22)
    assert [(row.key, row.reason) for row in found.off] == list(tiny_decoder.broken.items())
    assert (len(found.compared), found.least_cosine) == (21, pytest.approx(1))
    lines = list(recheck_lines(found))
    assert "off: train/0/0.mp4 (row 0): cannot be opened: No such file or directory" in lines
    assert "1 could not be made again" in lines[0]


def test_what_changed_since_is_named(again, tiny_decoder, monkeypatch):
    clip = tiny_decoder.clip
    monkeypatch.setattr(provenance_module, "ffmpeg_version", lambda: "99.0")
    assert not [line for line in recheck_lines(again(3)) if "cause" in line]  # the bits are the same all the same
    monkeypatch.setattr(tiny_decoder, "clip", lambda key: clip(key) ^ 1)
    found = again(3)
    assert found.off == []  # a step in the pixels is drift, and within what is asked for
    then, now = found.changed["ffmpeg"]
    assert now == "99.0"
    assert f"likely cause: ffmpeg was {then}, and is 99.0 (decoding and scaling)" in list(recheck_lines(found))


def test_other_cubes_and_empty_stores_are_refused(again, out, tmp_path, tiny_videos, tiny_backbone):
    with pytest.raises(SpecMismatchError, match=r"weights: aaaaaaaaaaaa\.\.\. in the first, bbbbbbbbbbbb"):
        again(3, backbone=tiny_backbone(weights="b" * 64))
    with pytest.raises(SpecMismatchError, match="views"):
        again(3, views=("plain",))
    with pytest.raises(CacheError, match="does not exist"):
        recheck_store(tiny_videos(), tiny_backbone(), out=tmp_path / "none.zarr", count=1, **HOW)


def test_another_data_set_is_refused(again, out, tiny_videos, tiny_backbone):
    def refused(match, **columns):
        videos = tiny_videos()
        index = VideoIndex.from_columns(videos.index.to_columns() | columns)
        with pytest.raises(ExtractError, match=match):
            recheck_store(replace(videos, index=index), tiny_backbone(), out=out, count=9, **HOW, views=VIEWS)

    index = tiny_videos().index
    refused(r"'train/0/0.mp4' is 'train0' .*but 'other'", **{"class": ("other", *index.classes[1:])})
    refused(r"\(9 of 9\) are of no video in .*check --dataset and --root", key=tuple(f"a{key}" for key in index.keys))
    with pytest.raises(ExtractError, match=r"follows the split folder, and this run hmdb51-arn"):
        other = replace(tiny_videos(), split_scheme="hmdb51-arn")
        recheck_store(other, tiny_backbone(), out=out, count=9, **HOW, views=VIEWS)
