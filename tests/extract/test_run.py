"""The extraction run: what it writes, how it resumes, what it refuses."""

import errno
import re
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from mastaf.cache.errors import CacheError, SpecMismatchError, StoppedError
from mastaf.cache.index import DONE, FAILED, MISSING, VideoIndex
from mastaf.cache.spec import STORE_DTYPES
from mastaf.cache.store import open_store, writer_lock
from mastaf.extract.backbones.base import Backbone, StagedNet
from mastaf.extract.datasets.videos import VideoSet
from mastaf.extract.decoding.decode import Clip
from mastaf.extract.decoding.pixels import pixel_rule
from mastaf.extract.engine import pipeline as pipeline_module
from mastaf.extract.engine import shard_work, surroundings
from mastaf.extract.errors import ExtractError, VideoError
from mastaf.extract.run import extract, extract_layers

FRAMES, SIZE = 4, 8
PASS = {"precision": "fp32", "device": "cpu", "progress": False, "shard_rows": 6, "batch": 4}


class TinyNet(StagedNet):
    """Two stages: a convolution to 3 channels, and a pooling to 2 x 2 x 2."""

    def __init__(self, gain=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = torch.nn.Conv3d(3, 3, 3, padding=1, bias=False)
        self.conv.weight.data = gain * torch.randn(self.conv.weight.shape, generator=generator)
        self.pool = torch.nn.AdaptiveAvgPool3d(2)
        self.eval()

    def stages(self):
        return {"conv": self.conv, "pool": self.pool}


def make_backbone(gain=1.0, weights="a" * 64, frames=FRAMES):
    return Backbone(
        name="tiny-test",
        frames=frames,
        pixels=pixel_rule(SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        layer="pool",
        cube_shape=(3, 2, 2, 2),
        weights_sha256=weights,
        weights_source="made for a test",
        module=TinyNet(gain),
    )


def make_videos(root, count=23, name="folder", flip_keeps_class=True):
    """count videos; classes of train, val and test take turns."""
    splits = sorted((("train", "val", "test")[i % 3] for i in range(count)), key=("train", "val", "test").index)
    keys = tuple(f"{split}/{i % 2}/{i}.mp4" for i, split in enumerate(splits))
    index = VideoIndex(keys, keys, tuple(f"{s}{i % 2}" for i, s in enumerate(splits)), tuple(splits), ("",) * count)
    return VideoSet(
        name=name,
        root=root,
        split_scheme="folder",
        flip_keeps_class=flip_keeps_class,
        index=index,
        ignored={"stray": 2},
    )


class FakeDecoder:
    """Random pixels that depend on the path alone; counts calls; some paths fail or interrupt."""

    def __init__(self):
        self.calls, self.broken, self.notes = [], {}, {}
        self.interrupt_at = None
        self._lock = threading.Lock()

    def __call__(self, path, *, frames, rule, views, sampling="even", key="", **_how):
        with self._lock:
            self.calls.append(key)
            number = len(self.calls)
        if self.interrupt_at is not None and number >= self.interrupt_at:
            raise KeyboardInterrupt
        if key in self.broken:
            raise VideoError(self.broken[key])
        return Clip(views_of(key, views, frames, rule.size), self.notes.get(key, ""))


def clip_of(key, frames=FRAMES, size=SIZE):
    random = np.random.default_rng([ord(letter) for letter in key])
    return random.integers(0, 256, (frames, size, size, 3), np.uint8)


def views_of(key, views, frames=FRAMES, size=SIZE):
    """uint8 [views, frames, size, size, 3]: the clip, the mirrored clip, others of their own."""
    plain = clip_of(key, frames, size)
    known = {"plain": plain, "flip": plain[:, :, ::-1]}
    return np.stack([known[view] if view in known else clip_of(key + view, frames, size) for view in views])


@pytest.fixture
def decoder(monkeypatch):
    fake = FakeDecoder()
    monkeypatch.setattr(pipeline_module, "decode_clip", fake)
    return fake


@pytest.fixture
def go(tmp_path, decoder):
    """extract() with what the tests share; a keyword may be given again."""

    def run(out="s.zarr", videos=None, backbone=None, **keywords):
        return extract(
            videos or make_videos(tmp_path), backbone or make_backbone(), out=tmp_path / out, **(PASS | keywords)
        )

    return run


def files_of(path):
    """Every file of a store but its header, which carries a date, and its lock: name -> bytes."""
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if name != "zarr.json"}


def all_cubes(store):
    return np.concatenate([store.read_shard(shard) for shard in range(store.n_shards)])


def states(tmp_path, name="s.zarr"):
    return open_store(tmp_path / name).states().tolist()


@pytest.mark.parametrize("out", ["s.zarr", "deep/er/s.h5"])
def test_cubes_are_the_backbones(tmp_path, go, out):
    summary = go(out)
    store = open_store(tmp_path / out)
    assert (summary.done, summary.skipped, summary.failed, summary.missing) == (23, 0, 0, 0)
    backbone = make_backbone()
    for row, key in enumerate(store.index.keys):
        with torch.no_grad():
            cube = backbone.forward(torch.from_numpy(clip_of(key))[None])[0]  # [c, t, h, w]
        np.testing.assert_allclose(store.read([row])[0], cube.numpy(), rtol=2e-3, atol=2e-3)


def test_the_header_says_what_was_done(tmp_path, go, decoder):
    decoder.notes["val/0/8.mp4"] = "container claims 100 frames, 95 decodable"
    go(command="mastaf-extract --x", threads=1)
    store = open_store(tmp_path / "s.zarr")
    header = store.header
    assert (header.dataset, header.split_scheme, header.batch, header.threads) == ("folder", "folder", 4, 1)
    assert (store.spec.backbone, store.spec.precision, store.spec.resize_size) == ("tiny-test", "fp32", 9)
    about = header.provenance
    assert about["command"] == "mastaf-extract --x"
    assert about["ignored"] == {"stray": 2}
    assert {"mastaf", "torch", "numpy", "ffmpeg"} <= set(about["versions"])
    assert store.notes() == {8: "container claims 100 frames, 95 decodable"}
    record = store.record(0)
    assert record is not None
    assert record.device == "cpu"


@pytest.mark.parametrize("views", [("plain",), ("plain", "flip")])
@pytest.mark.parametrize("stop_at", [2, 9, 14, 23])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, go, decoder, stop_at, views):
    go("whole.zarr", views=views)
    decoder.calls.clear()
    decoder.interrupt_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        go(views=views, workers=2)
    stopped = states(tmp_path)
    assert stopped.count(DONE) % 6 == 0
    assert stopped.count(DONE) <= stop_at
    kept = files_of(tmp_path / "s.zarr")
    decoder.interrupt_at = None
    decoder.calls.clear()
    summary = go(views=views, workers=3)
    assert (summary.skipped, summary.done) == (stopped.count(DONE), stopped.count(MISSING))
    assert len(decoder.calls) == stopped.count(MISSING)
    whole = files_of(tmp_path / "whole.zarr")
    assert files_of(tmp_path / "s.zarr") == whole
    assert kept.items() <= whole.items()


def test_a_finished_store_is_left_alone(tmp_path, go, decoder):
    go()
    before = files_of(tmp_path / "s.zarr")
    decoder.calls.clear()
    assert go().done == 0
    assert decoder.calls == []
    assert files_of(tmp_path / "s.zarr") == before


def test_a_limited_store_is_completed_to_the_same_bits(tmp_path, go, decoder):
    go("whole.zarr")
    assert go(limit=5).missing == 18
    first = states(tmp_path)
    assert first.count(DONE) == 5
    assert go(limit=5).done == 0
    assert go(limit=9).done == 4
    decoder.calls.clear()
    assert go().done == 14
    assert len(decoder.calls) == 14
    whole, pieces = (open_store(tmp_path / name) for name in ("whole.zarr", "s.zarr"))
    assert (all_cubes(whole) == all_cubes(pieces)).all()


def test_failed_videos_are_named_and_change_no_other_cube(tmp_path, go, decoder):
    go("whole.zarr")
    decoder.broken = {"train/0/0.mp4": "moov atom not found", "test/0/22.mp4": "no video stream"}
    decoder.notes = {"train/0/0.mp4": "x"}
    summary = go()
    assert (summary.done, summary.failed) == (21, 2)
    assert summary.failures == [
        {"key": "train/0/0.mp4", "reason": "moov atom not found"},
        {"key": "test/0/22.mp4", "reason": "no video stream"},
    ]
    store, whole = open_store(tmp_path / "s.zarr"), open_store(tmp_path / "whole.zarr")
    good = [row for row in range(23) if row not in (0, 22)]
    assert (store.read(good) == whole.read(good)).all()
    decoder.calls.clear()
    assert go().failed == 2
    assert decoder.calls == []


@pytest.mark.parametrize("store_dtype", STORE_DTYPES)
def test_retrying_failed_videos_does_those_alone(tmp_path, go, decoder, store_dtype):
    go = partial(go, store_dtype=store_dtype)
    go("whole.zarr")
    decoder.broken = {"train/0/0.mp4": "gone", "train/1/1.mp4": "gone", "test/0/22.mp4": "gone"}
    go()
    decoder.broken = {"train/1/1.mp4": "still gone"}
    decoder.calls.clear()
    summary = go(retry_failed=True)
    assert sorted(decoder.calls) == ["test/0/22.mp4", "train/0/0.mp4", "train/1/1.mp4"]
    assert (summary.done, summary.failed, summary.skipped) == (2, 1, 20)
    assert summary.failures == [{"key": "train/1/1.mp4", "reason": "still gone"}]
    decoder.broken = {}
    go(retry_failed=True)
    store, whole = open_store(tmp_path / "s.zarr"), open_store(tmp_path / "whole.zarr")
    assert (all_cubes(store) == all_cubes(whole)).all()
    for part in ("cubes", "scales"):
        assert files_of(store.path / part) == files_of(whole.path / part)
    assert [r.generation for r in store.records()] == [2, 0, 0, 1]
    assert [r.sha256 for r in store.records()] == [r.sha256 for r in whole.records()]
    assert store.reasons() == {}


def test_a_retry_takes_done_int8_rows_as_they_are(tmp_path, go, decoder):
    """Rounding again what was rounded gives other scales, if seldom: here, for numbers that rounding does not give."""
    decoder.broken = {"train/0/0.mp4": "gone"}
    go(store_dtype="int8")
    store = open_store(tmp_path / "s.zarr")
    record, cubes = store.record(0), store.read_packed(0)
    cubes.numbers[1:] //= 3
    (store.path / "shards/00000/zarr.json").unlink()
    kept = {"states": record.states, "reasons": record.reasons, "notes": {}, "device": record.device}
    store.write_shard(0, cubes.numbers, scales=cubes.scales, **kept)
    decoder.broken = {}
    assert go(store_dtype="int8", retry_failed=True).done == 1
    found = open_store(tmp_path / "s.zarr").read_packed(0)
    assert found.numbers[0].any()
    for part, expected in zip(found.parts, cubes.parts, strict=True):
        assert part[1:].tobytes() == expected[1:].tobytes()


def test_a_value_that_does_not_fit_is_a_failed_row(tmp_path, go):
    summary = go(backbone=make_backbone(gain=1e9))
    assert summary.failed == 23
    assert all("does not fit float16" in failure["reason"] for failure in summary.failures)
    assert not all_cubes(open_store(tmp_path / "s.zarr")).any()


class Contrast(torch.nn.Module):
    """Divides a clip by its standard deviation, so that a clip of one colour becomes NaN."""

    def forward(self, x):
        middle = x - x.mean(dim=(1, 2, 3, 4), keepdim=True)
        return middle / middle.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()


def test_a_cube_of_nan_is_a_failed_row(tmp_path, go, monkeypatch):
    def decode(path, *, frames, rule, views, sampling, key, **_how):
        grey = np.full((1, FRAMES, SIZE, SIZE, 3), 127, np.uint8)
        return Clip(grey if key == "train/1/1.mp4" else views_of(key, views), "")

    backbone = make_backbone()
    backbone.module.conv = torch.nn.Sequential(Contrast(), backbone.module.conv)
    monkeypatch.setattr(pipeline_module, "decode_clip", decode)
    summary = go(backbone=backbone)
    (failure,) = summary.failures
    assert failure["key"] == "train/1/1.mp4"
    assert "NaN" in failure["reason"]


def test_weights_that_give_nothing_but_nan_are_refused_at_once(tmp_path, go, decoder):
    with pytest.raises(ExtractError, match=r"must give finite numbers.*weights are broken"):
        go(backbone=make_backbone(gain=float("nan")))
    assert decoder.calls == []


def test_cubes_of_another_shape_than_declared_are_refused_at_once(go, decoder):
    with pytest.raises(ExtractError, match="at pool declares cubes of 3 x 2 x 2 x 1, gave 3 x 2 x 2 x 2"):
        go(backbone=replace(make_backbone(), cube_shape=(3, 2, 2, 1)))
    assert decoder.calls == []


def layers_of(backbone):
    return [backbone.at("conv"), backbone, backbone.at("conv", time="mean")]


def test_layers_in_one_pass_are_those_of_single_passes(tmp_path, go, decoder):
    """One decoding and one pass; every store is what a run of its own would write, bit for bit."""
    videos, backbones = make_videos(tmp_path), layers_of(make_backbone())
    decoder.broken[videos.index.keys[10]] = "cannot be read"
    outs = [tmp_path / f"{name}.zarr" for name in ("conv", "pool", "mean")]
    summaries = extract_layers(videos, backbones, outs=outs, **PASS)
    assert len(decoder.calls) == 23
    assert [summary.failed for summary in summaries] == [1, 1, 1]
    for backbone, out in zip(backbones, outs, strict=True):
        go(out=f"alone_{out.name}", backbone=backbone)
        store, alone = open_store(out), open_store(tmp_path / f"alone_{out.name}")
        assert store.spec == alone.spec
        assert store.spec.cube_shape == backbone.cube_shape
        assert (all_cubes(store) == all_cubes(alone)).all()
        assert store.reasons() == alone.reasons()
    conv, mean = (all_cubes(open_store(out)).astype(np.float32) for out in (outs[0], outs[2]))
    np.testing.assert_allclose(mean, conv.mean(axis=3, keepdims=True), atol=1e-2)  # [n, views, c, t, h, w]


def test_a_pass_finishes_what_each_store_lacks(tmp_path, go, decoder):
    """One store is finished, one is begun, one is new: the pass decodes what any of them lacks, and redoes nothing."""
    videos, backbones = make_videos(tmp_path), layers_of(make_backbone())
    go(out="conv.zarr", backbone=backbones[0])
    go(out="pool.zarr", backbone=backbones[1], limit=5)
    written = files_of(tmp_path / "conv.zarr")
    decoder.calls.clear()
    outs = [tmp_path / f"{name}.zarr" for name in ("conv", "pool", "mean")]
    summaries = extract_layers(videos, backbones, outs=outs, **PASS)
    assert [(s.done, s.skipped, s.missing) for s in summaries] == [(0, 23, 0), (18, 5, 0), (23, 0, 0)]
    assert files_of(tmp_path / "conv.zarr") == written
    go(out="alone.zarr", backbone=backbones[1])
    assert (all_cubes(open_store(outs[1])) == all_cubes(open_store(tmp_path / "alone.zarr"))).all()


def test_a_pass_that_was_killed_between_two_stores_leaves_finished_shards_alone(tmp_path, go, decoder):
    """A shard that one store has and the other lacks is written to the other alone."""
    videos, backbones = make_videos(tmp_path), layers_of(make_backbone())[:2]
    decoder.interrupt_at = 9
    with pytest.raises(KeyboardInterrupt):
        go(out="conv.zarr", backbone=backbones[0], workers=1)
    assert states(tmp_path, "conv.zarr").count(DONE) == 6
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "conv.zarr").rglob("*") if path.is_file()}
    decoder.interrupt_at = None
    extract_layers(videos, backbones, outs=[tmp_path / "conv.zarr", tmp_path / "pool.zarr"], **PASS)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for backbone, out in zip(backbones, ("conv.zarr", "pool.zarr"), strict=True):
        go(out=f"alone_{out}", backbone=backbone)
        assert files_of(tmp_path / out) == files_of(tmp_path / f"alone_{out}")


def test_stores_of_other_batches_are_not_filled_in_one_pass(tmp_path, go):
    backbones = layers_of(make_backbone())[:2]
    go(out="conv.zarr", backbone=backbones[0], batch=2)
    outs = [tmp_path / "conv.zarr", tmp_path / "pool.zarr"]
    with pytest.raises(ExtractError, match=r"batch of .*conv.zarr \(2\) and .*pool.zarr \(4\) must be equal"):
        extract_layers(make_videos(tmp_path), backbones, outs=outs, **PASS)


def test_one_overflow_spares_the_other_rows_of_its_batch(tmp_path, go, monkeypatch):
    def decode(path, *, frames, rule, views, sampling, key, **_how):
        grey = np.full((1, FRAMES, SIZE, SIZE, 3), 127, np.uint8)
        return Clip(views_of(key, views) if key == "train/1/1.mp4" else grey, "a note")

    monkeypatch.setattr(pipeline_module, "decode_clip", decode)
    summary = go(backbone=make_backbone(gain=1e5))
    assert [failure["key"] for failure in summary.failures] == ["train/1/1.mp4"]
    assert 1 not in open_store(tmp_path / "s.zarr").notes()


def test_the_flipped_view_is_the_cube_of_the_mirrored_clip(tmp_path, go):
    go(views=("plain", "flip"))
    store, backbone = open_store(tmp_path / "s.zarr"), make_backbone()
    mirrored = np.ascontiguousarray(clip_of(store.index.keys[4])[:, :, ::-1])  # [frames, size, size, 3]
    with torch.no_grad():
        cube = backbone.forward(torch.from_numpy(mirrored)[None])[0]  # [c, t, h, w]
    np.testing.assert_allclose(store.read([4], view=1)[0], cube.numpy(), rtol=2e-3, atol=2e-3)
    assert (store.read([4], view=0) != store.read([4], view=1)).any()


def test_a_view_keeps_its_bits_whatever_is_extracted_beside_it(tmp_path, go):
    go(out="one.zarr")
    go(out="many.zarr", views=("plain", "t1", "topleft", "flip"))
    one, many = (all_cubes(open_store(tmp_path / name)) for name in ("one.zarr", "many.zarr"))
    assert one.shape[1:2] + many.shape[1:2] == (1, 4)
    assert (one[:, 0] == many[:, 0]).all()
    for view in (1, 2, 3):
        assert (many[:, view] != many[:, 0]).any(axis=(1, 2, 3, 4)).all()


@pytest.mark.parametrize("sampling", ["middle", "shuffled"])
def test_a_control_has_no_jittered_view(tmp_path, go, sampling):
    with pytest.raises(
        ExtractError, match=rf"sampling \({sampling}\) must be even with view 't1'.* drop t1 and left\+t2"
    ):
        go(views=("plain", "flip", "t1", "left+t2"), sampling=sampling)
    assert not (tmp_path / "s.zarr").exists()
    go(views=("plain", "left", "flip"), sampling=sampling)


@pytest.mark.parametrize("view", ["flip", "topleft+t2+flip"])
def test_a_flip_that_changes_classes_is_refused_unless_allowed(tmp_path, go, view):
    videos = make_videos(tmp_path, name="motion", flip_keeps_class=False)
    with pytest.raises(ExtractError, match=rf"view '{re.escape(view)}' would change .* in 'motion' .*--allow-flip"):
        go(videos=videos, views=("plain", "t1", view))
    assert not (tmp_path / "s.zarr").exists()
    go(videos=videos, views=("plain", "t1", "left+t1"), out="no_flip.zarr")
    go(videos=videos, views=("plain", view), allow_flip=True)
    assert open_store(tmp_path / "s.zarr").header.provenance["allow_flip"] is True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"backbone": make_backbone(weights="b" * 64)},
            "weights: aaaaaaaaaaaa... in the first, bbbbbbbbbbbb... in the second",
        ),
        ({"backbone": make_backbone(frames=6)}, "frames: 4 in the first, 6 in the second"),
        (
            {"precision": "bf16", "sampling": "middle"},
            "sampling: even in the first, middle in the second; precision: fp32 in the first, bf16",
        ),
        ({"views": ("plain", "flip")}, "views: plain in the first, plain, flip in the second"),
    ],
)
def test_a_store_of_another_recipe_is_refused_field_by_field(tmp_path, go, change, message):
    go(limit=3)
    before = files_of(tmp_path / "s.zarr")
    with pytest.raises(SpecMismatchError, match=message):
        go(**change)
    assert files_of(tmp_path / "s.zarr") == before


def test_a_store_of_other_videos_is_refused(tmp_path, go):
    videos = make_videos(tmp_path)
    columns = videos.index.to_columns()

    def changed(**new):
        return replace(videos, index=VideoIndex.from_columns(columns | new))

    go(limit=3)
    keys = columns["key"]
    with pytest.raises(ExtractError, match=r"1 are new \('new'\), 1 are gone \('test/0/22.mp4'\); pass another --out"):
        go(videos=changed(key=(*keys[:-1], "new")))
    with pytest.raises(ExtractError, match="another order"):
        go(videos=changed(key=keys[::-1]))
    with pytest.raises(ExtractError, match="follows the split folder, and this run other"):
        go(videos=replace(videos, split_scheme="other"))
    with pytest.raises(ExtractError, match=r"'train/0/0.mp4' is 'train0' in .* but 'walk' in this run"):
        go(videos=changed(**{"class": ("walk", *columns["class"][1:])}))


def test_a_store_keeps_its_batch_threads_and_shards(tmp_path, go, decoder, monkeypatch):
    seen = []

    def prepared(backbones, *, precision, device, exact):
        def run(clips):
            seen.append((len(clips), torch.get_num_threads()))
            return [backbone.forward(clips).detach() for backbone in backbones]

        return run

    monkeypatch.setattr(shard_work, "prepare", prepared)
    before = torch.get_num_threads()
    go(limit=3, threads=3)
    go(batch=1, shard_rows=2, threads=1, compress="zstd")
    header = open_store(tmp_path / "s.zarr").header
    assert (header.batch, header.threads, header.shard_rows, header.compress) == (4, 3, 6, "")
    assert set(seen) == {(4, 3)}
    assert torch.get_num_threads() == before


def test_the_batch_and_default_shards_fit_each_other(tmp_path, go):
    go(shard_rows=None, batch=10)
    header = open_store(tmp_path / "s.zarr").header
    assert (header.batch, header.shard_rows) == (10, 60)


def test_two_runs_cannot_write_one_store(tmp_path, go):
    with writer_lock(tmp_path / "s.zarr"), pytest.raises(StoppedError, match="another process"):
        go()


@pytest.mark.parametrize("out", ["s.zarr", "s.h5"])
@pytest.mark.parametrize("after", [0, 3, 5])
def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, go, monkeypatch, out, after):
    import os

    go("whole.zarr")
    calls, sync = 0, os.fsync

    def full(descriptor):
        nonlocal calls
        calls += 1
        if calls > 12 + after:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoppedError):
            go(out)
    if (tmp_path / out).exists():
        assert states(tmp_path, out).count(DONE) < 23
    assert go(out).failed == 0
    store, whole = open_store(tmp_path / out), open_store(tmp_path / "whole.zarr")
    assert (all_cubes(store) == all_cubes(whole)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cpu,cuda:99"}, r"devices \('cuda:99'\) is not there"),
        ({"device": "cpu,cpu"}, r"devices \(cpu,cpu\) need the argument load"),
        ({"cluster": "tcp://127.0.0.1:1"}, r"load \(None\) must make the backbones .* for --cluster"),
        ({"device": "tpu"}, r"devices \('tpu'\) must be auto, cpu or cuda:N"),
        ({"device": "cpu,"}, r"devices \(''\) must be auto, cpu or cuda:N"),
        ({"device": "cuda:99"}, r"devices \('cuda:99'\) is not there"),
        ({"views": ("plain", "flop")}, "unknown view 'flop'; did you mean flip"),
        ({"views": ("flip",)}, "must be distinct and begin with plain"),
        ({"sampling": "midle"}, "unknown sampling rule 'midle'; did you mean middle"),
        ({"limit": 0}, r"limit \(0\)"),
        ({"batch": 0}, r"batch \(0\)"),
    ],
)
def test_wrong_options_are_named(go, change, message):
    with pytest.raises((ExtractError, CacheError), match=message):
        go(**change)


def test_a_store_of_another_kind_of_device_is_refused(tmp_path, go, monkeypatch):
    for module in (surroundings, pipeline_module):
        monkeypatch.setattr(module, "device_name", lambda device: "cuda Imaginary 9000")
    go(limit=3)
    monkeypatch.undo()
    monkeypatch.setattr(pipeline_module, "decode_clip", FakeDecoder())
    with pytest.raises(ExtractError, match="computed on cuda Imaginary 9000, and this run is on cpu"):
        go()
    assert go(allow_mixed_devices=True).missing == 0
    both, cpu = "cuda Imaginary 9000 + cpu", "cpu"
    assert {record.device for record in open_store(tmp_path / "s.zarr").records()} == {both, cpu}
    with pytest.raises(ExtractError, match=r"computed on cuda Imaginary 9000 \+ cpu, .*--allow-mixed-devices"):
        go()


@pytest.mark.parametrize("out", ["s.npz", "s"])
def test_the_suffix_chooses_the_format(go, out):
    with pytest.raises(CacheError, match=r"must end in \.zarr or \.h5"):
        go(out)


def test_states_are_told_apart(tmp_path, go, decoder):
    decoder.broken = {"train/0/0.mp4": "gone"}
    go(limit=4)
    found = states(tmp_path)
    assert (found.count(DONE), found.count(FAILED), found.count(MISSING)) == (3, 1, 19)
