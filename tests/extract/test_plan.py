"""`--plan`: what it foretells is what a run then does, and it leaves nothing behind."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mastaf.cache.describe import stored_bytes
from mastaf.cache.errors import SpecMismatchError, StoppedError
from mastaf.cache.index import DONE
from mastaf.cache.store import open_store
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.engine.timer import STAGES
from mastaf.extract.errors import ExtractError
from mastaf.extract.looks.measure import Sample, sample_of, spread
from mastaf.extract.looks.plan import plan_layers, predict
from mastaf.extract.looks.plan_text import plan_lines
from mastaf.extract.run import extract, extract_layers

HOW = {"precision": "fp32", "device": "cpu", "shard_rows": 6, "batch": 4}
pytestmark = pytest.mark.usefixtures("one_thread")


def entries(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def plan(tmp_path, tiny_videos, tiny_backbone, tiny_decoder):
    def make(out="s.zarr", videos=None, backbones=None, **changes):
        backbones = backbones or [tiny_backbone()]
        outs = [tmp_path / out] if isinstance(out, str) else [tmp_path / name for name in out]
        return plan_layers(videos or tiny_videos(), backbones, outs=outs, **(HOW | changes))

    return make


@pytest.mark.parametrize(("out", "dtype"), [("s.zarr", "float16"), ("deep/er/s.h5", "float16"), ("s.zarr", "int8")])
@pytest.mark.parametrize("views", [("plain",), ("plain", "flip")])
def test_bytes_are_those_of_the_run_and_nothing_is_left(tmp_path, plan, tiny_videos, tiny_backbone, out, dtype, views):
    how = {"views": views, "store_dtype": dtype}
    before, threads = entries(tmp_path), torch.get_num_threads()
    found = plan(out, **how)
    assert (entries(tmp_path), torch.get_num_threads()) == (before, threads)
    (store,) = found.stores
    assert (found.to_do, store.to_do, store.done, store.failed) == (23, 23, 0, 0)
    assert store.cubes_bytes == 23 * len(views) * 3 * (2 * 8 if dtype == "float16" else 8 + 2)
    assert found.sample is not None
    assert (found.sample.videos, found.sample.failures) == (23, {})
    assert found.seconds > 0
    assert found.bound in ("decode", "forward", "write")
    made = extract(tiny_videos(), tiny_backbone(), out=tmp_path / out, progress=False, **how, **HOW)
    stored = stored_bytes(open_store(tmp_path / out))
    assert store.cubes_bytes < stored <= store.to_come
    assert (made.done, plan(out, **how).to_do) == (23, 0)


def test_what_is_there_is_not_counted(tmp_path, plan, tiny_videos, tiny_backbone, tiny_decoder):
    tiny_decoder.broken = {"train/0/0.mp4": "gone", "train/1/1.mp4": "torn"}
    extract(tiny_videos(), tiny_backbone(), out=tmp_path / "s.zarr", limit=9, progress=False, **HOW)
    before = entries(tmp_path)
    done, tiny_decoder.calls = open_store(tmp_path / "s.zarr").states().tolist().count(DONE), []
    (store,) = plan().stores
    assert (store.done, store.failed, store.to_do) == (done, 9 - done, 14)
    assert not set(tiny_decoder.calls) & set(tiny_decoder.broken)
    again = plan(retry_failed=True)
    assert again.to_do == 14 + store.failed
    assert again.sample is not None
    assert again.sample.failures.items() <= tiny_decoder.broken.items()
    assert plan(limit=9).sample is None
    assert plan(limit=12).to_do == 3
    assert entries(tmp_path) == before


def test_several_stores_of_one_pass(tmp_path, plan, tiny_videos, tiny_backbone):
    one = tiny_backbone()
    layers = [one.at(layer) for layer in ("conv", "pool")]
    extract(tiny_videos(), layers[1], out=tmp_path / "pool.zarr", limit=20, progress=False, **HOW)
    found = plan(("conv.zarr", "pool.zarr"), backbones=layers)
    assert [store.to_do for store in found.stores] == [23, 3]
    assert [store.cubes_bytes for store in found.stores] == [2 * 23 * 3 * 4 * 8 * 8, 2 * 23 * 3 * 2 * 2 * 2]
    extract_layers(tiny_videos(), layers, outs=[tmp_path / "conv.zarr", tmp_path / "pool.zarr"], progress=False, **HOW)
    assert plan(("conv.zarr", "pool.zarr"), backbones=layers).to_do == 0


def test_a_plan_refuses_what_a_run_refuses(tmp_path, plan, tiny_videos, tiny_backbone):
    extract(tiny_videos(), tiny_backbone(), out=tmp_path / "s.zarr", limit=3, progress=False, **HOW)
    with pytest.raises(SpecMismatchError, match="weights"):
        plan(backbones=[tiny_backbone(weights="b" * 64)])
    with pytest.raises(ExtractError, match="of other videos"):
        plan(videos=tiny_videos(24))
    with pytest.raises(ExtractError, match=r"batch \(0\)"):
        plan(batch=0)


def test_of_several_devices_one_is_measured(plan):
    said = {device: "\n".join(plan_lines(plan(device=device))) for device in ("cpu", "cpu,cpu")}
    assert "; one of 2 devices was measured, alone\n" in said["cpu,cpu"]
    assert "alone" not in said["cpu"]


def test_few_batches_are_judged_by_all_that_were_run():
    """Two batches count, in which chance waited for the writer; in all four the decoders were waited for most."""

    def batch(wait, write_wait):
        seconds = dict.fromkeys(STAGES, 0.0) | {"wait": wait, "write_wait": write_wait}
        return type("Done", (), {"tried": 4, "seconds": seconds, "decoders": 1})

    marks = [(float(n), batch(*waited)) for n, waited in enumerate([(9, 0), (9, 0), *[(1, 2)] * 3], start=1)]
    more = marks + [(float(n), batch(1, 2)) for n in range(6, 30)]
    about = {"most_in_flight": 1, "failures": {}, "squeezed": 1.0}
    assert [sample_of(of, **about).bound for of in (marks, more)] == ["decode", "write"]


def test_the_time_that_is_given_bounds_the_sample(plan, tiny_videos, tiny_decoder):
    found = plan(videos=tiny_videos(900), seconds=0.0)
    assert found.sample is not None
    assert found.sample.videos == 4  # one batch
    assert len(tiny_decoder.calls) < 200
    assert plan(videos=tiny_videos(900)).sample.videos == 228  # a quarter, in whole batches


@given(st.integers(0, 3000))
def test_every_beginning_of_a_sample_is_spread_evenly(n):
    order = spread(n)
    assert sorted(order) == list(range(n))
    for step in (1 << k for k in range(max(n - 1, 0).bit_length() + 1)):
        even = list(range(0, n, step))
        assert sorted(order[: len(even)]) == even


@given(st.integers(1, 40), st.integers(1, 400), st.floats(0.01, 5), st.floats(0, 20), st.floats(0, 1))
def test_the_prediction_is_the_pace_carried_on(batch, batches, pace, begun, write):
    """A run that goes on as its sample did, batch by batch."""
    sample = Sample(
        videos=3 * batch,
        seconds=begun + batch * pace,
        started=(2 * batch, begun),
        pace=pace,
        forward=batch * pace / 2,
        write=write,
        stages={},
        bound="decode",
        decoders=1,
        most_in_flight=1,
        failures={},
        squeezed=1.0,
    )
    header = type("Header", (), {"batch": batch, "shard_rows": 4 * batch})
    clock, through = begun, 3  # two are committed, and the third went through the network
    while through < batches:
        clock, through = clock + batch * pace, through + 1
    clock += write * min(4, batches) * batch  # the last shard
    expected = sample.seconds if batches <= 3 else clock
    assert predict(sample, batches, videos=batches * batch, written=0, header=header) == pytest.approx(expected)
    # The same videos, scattered so that each batch holds a quarter of its rows: forward passes count.
    scattered = predict(sample, 4 * batches, videos=batches * batch, written=0, header=header)
    assert batches <= 3 or scattered >= begun + (4 * batches - 3) * sample.forward - 1e-6
    # Shards are written whole, with few rows too.
    sparse = predict(sample, batches, videos=batches * batch, written=1000 * batch, header=header)
    assert batches <= 3 or sparse >= begun + 996 * batch * write - 1e-6


def test_a_disk_that_is_too_small(tmp_path, plan, tiny_videos, tiny_backbone, monkeypatch):
    def go(**changes):
        return extract(tiny_videos(), tiny_backbone(), out=tmp_path / "s.zarr", progress=False, **(HOW | changes))

    def with_free(nbytes):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: type("Usage", (), {"total": 1 << 50, "free": nbytes}))

    assert plan(shard_rows=1000).stores[0].to_come < 1000 * 2 * 3 * 8  # nothing is replaced in a new store
    margin = 16 << 20
    needed = plan().stores[0].to_come
    with_free(needed + margin - 1)
    found = plan()
    assert f"{needed + margin} (" in found.lack
    assert any("the run would not start: the disk of" in line for line in plan_lines(found))
    before = entries(tmp_path)
    with pytest.raises(StoppedError, match=rf"{needed + margin} \(.* are needed; free some space, or pass --out"):
        go()
    assert entries(tmp_path) == before
    with_free(needed + margin)
    assert (plan().lack, go(limit=12).done) == ("", 12)
    # Shards that are there are not counted: the limit's rows lie in all four, so the largest's passing copy is left.
    left = plan().stores[0].to_come
    assert left < needed / 4
    with_free(left + margin - 1)
    with pytest.raises(StoppedError):
        go()
    with_free(left + margin)
    assert go().missing == 0
    with_free(0)
    assert go().done == 0  # nothing is missing, so nothing is needed


def test_a_compressed_store_is_measured(tmp_path, plan, tiny_videos, tiny_backbone, tiny_decoder, monkeypatch):
    monkeypatch.setattr(tiny_decoder, "clip", lambda key: np.zeros((4, 8, 8, 3), np.uint8))
    layer: Backbone = tiny_backbone().at("conv")
    found = plan(backbones=[layer], compress="zstd")
    raw = 2 * 23 * 3 * 4 * 8 * 8
    assert found.stores[0].cubes_bytes < raw / 2
    extract(tiny_videos(), layer, out=tmp_path / "s.zarr", compress="zstd", progress=False, **HOW)
    shards = sum(path.stat().st_size for path in (tmp_path / "s.zarr" / "cubes").glob("c.*"))
    index = 4 * (16 * 6 + 4)  # of four shards of six rows
    assert found.stores[0].cubes_bytes == shards - index
