"""The feature bank against the store read row by row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.fewshot.bank import Buffers, FeatureBank, draw_views, training_views
from mastaf.fewshot.episode import EpisodeRows
from mastaf.fewshot.errors import FewShotError

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Any]


def some_rows(n: int, *, b: int = 3, way: int = 2, shot: int = 2, q: int = 2, seed: int = 0) -> EpisodeRows:
    rng = np.random.default_rng(seed)
    return EpisodeRows(
        rng.integers(0, n, (b, way, shot)),
        rng.integers(0, n, (b, q)),
        rng.integers(0, way, (b, q)),
        rng.integers(0, 3, (b, way)),
    )


@pytest.mark.parametrize(("suffix", "compress"), [(".zarr", ""), (".h5", ""), (".zarr", "zstd")])
@pytest.mark.parametrize("threads", [1, 2])
def test_episodes_hold_the_stored_cubes(
    tmp_path: Path, make_store: Make, suffix: str, compress: str, threads: int
) -> None:
    # Cubes of more than one piece of the copy, two views, one failed row.
    store = make_store(
        tmp_path / f"s{suffix}",
        cube_shape=(40, 2, 21, 20),
        videos=3,
        views=("plain", "flip"),
        failed=["jump/001"],
        compress=compress,
    )
    bank = FeatureBank(store, "val", views=(0, 1))
    assert len(bank) == 8
    rows = some_rows(len(bank))
    views = np.random.default_rng(1).integers(0, 2, (3, 6))
    torch.set_num_threads(threads)
    episode = bank.episode(rows, train_class_ids={"jump": 4}, views=views)
    assert episode.support.dtype == episode.query.dtype == torch.float32
    for b in range(3):
        for way in range(2):
            assert episode.class_ids[b, way] == (4 if bank.class_names[rows.classes[b, way]] == "jump" else -1)
            for shot in range(2):
                row = bank.rows[rows.support[b, way, shot]]
                expected = store.read([row], int(views[b, 2 * way + shot]))[0]
                np.testing.assert_array_equal(episode.support[b, way, shot].numpy(), expected.astype(np.float32))
        for q in range(2):
            expected = store.read([bank.rows[rows.query[b, q]]], int(views[b, 4 + q]))[0]
            np.testing.assert_array_equal(episode.query[b, q].numpy(), expected.astype(np.float32))
    np.testing.assert_array_equal(episode.labels.numpy(), rows.labels)


def test_evaluation_uses_the_plain_view(tmp_path: Path, make_store: Make) -> None:
    bank = FeatureBank(make_store(tmp_path / "s.zarr", views=("plain", "flip")), "test")
    rows = some_rows(len(bank))
    plain = bank.episode(rows, views=np.zeros((3, 6), dtype=np.int64))
    assert torch.equal(bank.episode(rows).support, plain.support)


def test_buffers_are_used_again(toy_store: Any) -> None:
    bank, buffers = FeatureBank(toy_store, "test"), Buffers()
    first = bank.episode(some_rows(len(bank), seed=1), buffers=buffers)
    kept = first.support.clone()
    second = bank.episode(some_rows(len(bank), seed=2), buffers=buffers)
    assert second.support.data_ptr() == first.support.data_ptr()
    assert torch.equal(bank.episode(some_rows(len(bank), seed=1), buffers=buffers).support, kept)


def test_failed_rows_are_left_out_and_counted(tmp_path: Path, make_store: Make) -> None:
    store = make_store(tmp_path / "s.zarr", failed=["bow/000", "bow/003", "mop/001"])
    bank = FeatureBank(store, "train")
    assert bank.coverage == {"videos": 46, "failed": 2, "missing": 0}
    assert "bow/000" not in bank.keys
    assert "bow/001" in bank.keys
    assert len(bank.keys) == len(bank.classes) == len(bank.rows) == 46


def test_missing_rows_are_an_error_unless_allowed(tmp_path: Path, make_store: Make) -> None:
    store = make_store(tmp_path / "s.zarr", missing_shards=[0])
    with pytest.raises(FewShotError, match=r"7 of 48 train videos .* not extracted yet.*--allow-partial"):
        FeatureBank(store, "train")
    assert FeatureBank(store, "train", allow_partial=True).coverage == {"videos": 41, "failed": 0, "missing": 7}
    assert FeatureBank(store, "test").coverage["missing"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_cube_that_is_not_finite_is_named(
    tmp_path: Path, make_store: Make, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    store = make_store(tmp_path / "s.zarr")
    real = type(store).mapped

    def damaged(self: Any, shard: int) -> np.ndarray:
        cubes = real(self, shard).copy()
        if shard == 0:
            cubes[2, 0, 1, 0, 1, 1] = value
        return cubes

    monkeypatch.setattr(type(store), "mapped", damaged)
    bank = FeatureBank(store, "train")
    out = torch.empty(1, 6, 1, 2, 2)
    for position in (0, 1, 3):
        bank.gather(np.array([position]), np.array([0]), out)
    with pytest.raises(FewShotError, match="'bow/002' holds NaN or Inf"):
        bank.gather(np.array([2]), np.array([0]), out)


def test_training_draws_views_only_where_a_flip_keeps_the_class(tmp_path: Path, make_store: Make) -> None:
    both = ("plain", "flip")
    keeps = make_store(tmp_path / "a.zarr", views=both)
    loses = make_store(tmp_path / "b.zarr", views=both, flip_keeps_class=False)
    assert training_views(keeps.header) == (0, 1)
    assert training_views(loses.header) == (0,)
    loses.header.provenance["allow_flip"] = True
    assert training_views(loses.header) == (0, 1)


def test_views_depend_on_seed_and_episode_alone() -> None:
    whole = draw_views(3, 10, 200, 7, (0, 1))
    parts = np.concatenate([draw_views(3, start, 40, 7, (0, 1)) for start in range(10, 210, 40)])
    np.testing.assert_array_equal(whole, parts)
    assert abs(whole.mean() - 0.5) < 0.06
    assert not np.array_equal(draw_views(4, 10, 200, 7, (0, 1)), whole)
    assert not draw_views(3, 10, 200, 7, (0,)).any()


def test_the_digest_tells_usable_videos_apart(tmp_path: Path, make_store: Make) -> None:
    whole = FeatureBank(make_store(tmp_path / "a.zarr"), "train")
    less = FeatureBank(make_store(tmp_path / "b.zarr", failed=["bow/000"]), "train")
    assert whole.digest == FeatureBank(make_store(tmp_path / "c.h5"), "train").digest
    assert whole.digest != less.digest
