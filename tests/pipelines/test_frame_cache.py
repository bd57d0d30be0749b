"""The frame cache: the pixels of decoding, read by plain zarr, filled once, and never for other videos."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.pixels import PixelRule, pixel_rule
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.finetuning import frame_cache
from mastaf.pipelines.finetuning.finetune import finetune
from mastaf.pipelines.finetuning.frame_cache import FrameCache, jittered

FRAMES, MORE = 4, 9
RULE = pixel_rule(20, resize_size=20)


@pytest.fixture
def paths(small_motion, tmp_path) -> list[Path]:
    """Five videos, one of them broken."""
    folder = tmp_path / "videos"
    shutil.copytree(small_motion / "train" / "blink", folder)
    (folder / "extra.mp4").write_text("not a video")
    return sorted(folder.iterdir())


def cache_of(paths: list[Path], place: Path, *, rule: PixelRule = RULE, **changed: Any) -> FrameCache:
    names = [path.name for path in paths]
    return FrameCache(place, paths, names, rule=rule, workers=2, **({"frames": FRAMES, "more": MORE} | changed))


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Names of the videos that were decoded; shards of two videos."""
    found: list[str] = []

    def counting(path: Path, **how: Any) -> Any:
        found.append(path.name)
        return decode_clip(path, **how)

    monkeypatch.setattr(frame_cache, "decode_clip", counting)
    monkeypatch.setattr(frame_cache, "_SHARD_BYTES", 2 * (FRAMES + MORE) * 20 * 20 * 3)
    return found


def test_it_holds_the_frames_of_decoding_and_plain_zarr_reads_it(paths, tmp_path, calls):
    cache = cache_of(paths, tmp_path / "c" / "train.zarr")
    failed = cache.decode_all()
    assert [paths[row].name for row in failed] == ["extra.mp4"]
    plain = zarr.open_group(tmp_path / "c" / "train.zarr", mode="r")["frames"]
    assert isinstance(plain, zarr.Array)
    assert plain.shape == (5, FRAMES + MORE, 20, 20, 3)
    for row, path in enumerate(paths):
        if row in failed:
            assert not np.asarray(plain[row]).any()
            continue
        first, more = (decode_clip(path, frames=count, rule=RULE).pixels for count in (FRAMES, MORE))
        assert np.array_equal(cache.load([row])[0], first)
        assert np.array_equal(np.asarray(plain[row]), np.concatenate([first, more]))
        drawn = cache.load([row], np.random.default_rng(row))[0]
        assert np.array_equal(drawn, more[jittered(MORE, FRAMES, np.random.default_rng(row))])


def test_a_killed_filling_goes_on_and_a_changed_video_is_decoded_again(paths, tmp_path, calls, monkeypatch):
    place = tmp_path / "train.zarr"
    real = FrameCache._fill

    def dies(self: FrameCache, shard: int, pool: Any) -> None:
        if shard == 1:
            (place / "frames" / "c.1.0.0.0.0").write_bytes(b"half a shard")
            raise KeyboardInterrupt
        real(self, shard, pool)

    with monkeypatch.context() as patch:
        patch.setattr(FrameCache, "_fill", dies)
        with pytest.raises(KeyboardInterrupt):
            cache_of(paths, place).decode_all()
    before = len(calls)
    cache_of(paths, place).decode_all()
    assert set(calls[before:]) == {path.name for path in paths[2:]}
    calls.clear()
    assert len(cache_of(paths, place).decode_all()) == 1
    assert calls == []
    shutil.copy(paths[1], paths[-1])
    cache = cache_of(paths, place)
    assert cache.decode_all() == {}
    assert set(calls) == {paths[-1].name}
    assert np.array_equal(cache.load([4])[0], cache.load([1])[0])


def test_frames_of_another_recipe_are_refused(paths, tmp_path, calls):
    place = tmp_path / "train.zarr"
    cache_of(paths, place).decode_all()
    with pytest.raises(PipelineError, match=r"holds other frames \(frames: 5 here, 4 there; more: 8 here, 9 there\)"):
        cache_of(paths, place, frames=5, more=8).decode_all()
    with pytest.raises(PipelineError, match="resize_size: 24 here, 20 there; size: 24 here"):
        cache_of(paths, place, rule=pixel_rule(24, resize_size=24)).decode_all()
    with pytest.raises(PipelineError, match="videos: "):
        cache_of(paths[:4], place).decode_all()
    (place / "zarr.json").write_text("{}")
    with pytest.raises(PipelineError, match="is no frame cache"):
        cache_of(paths, place).decode_all()


@given(count=st.integers(1, 60), wanted=st.integers(1, 20), seed=st.integers(0, 99))
def test_drawn_frames_rise_within_the_clip(count, wanted, seed):
    drawn = jittered(count, wanted, np.random.default_rng(seed))
    assert len(drawn) == wanted
    assert (np.diff(drawn) >= 0).all()
    assert 0 <= drawn[0] <= max(0, min(5, (count - wanted) // 2))
    assert drawn[-1] <= count - 1
    if count >= wanted > 1:
        assert len(set(drawn.tolist())) == wanted


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("recipe", ["classify", "episodic"])
def test_training_from_it_is_training_from_videos(small_motion, tmp_path, monkeypatch, recipe):
    """And a second run decodes nothing; frames that are drawn make another run."""
    for name in ("blink", "slide_right"):
        shutil.copytree(small_motion / "train" / name, tmp_path / "videos" / "train" / name)
    how: dict[str, Any] = {
        "dataset": "folder",
        "root": tmp_path / "videos",
        "size": 32,
        "batch": 2,
        "precision": "fp32",
    }
    how |= {"classify": {"steps": 2}, "episodic": {"train_episodes": 4, "way": 2}}[recipe]

    def run(name: str, **more: Any) -> str:
        return finetune(recipe=recipe, out=tmp_path / name, device="cpu", **how, **more)["weights_sha256"]

    plain = run("plain")
    cached = {"frame_cache": tmp_path / "cache"}
    assert run("cached", **cached) == plain != load_backbone("r3d-tiny", size=32).weights_sha256
    monkeypatch.setattr(frame_cache, "decode_clip", lambda *_a, **_k: pytest.fail("nothing is to be decoded"))
    assert run("again", **cached) == plain
    monkeypatch.undo()
    assert run("drawn", frame_cache=tmp_path / "more", cache_frames=24) != plain
    with pytest.raises(PipelineError, match=r"cache_frames \(24\) needs a --frame-cache"):
        run("refused", cache_frames=24)
