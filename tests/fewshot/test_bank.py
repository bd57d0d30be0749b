"""The feature bank against the store read row by row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.errors import CorruptStoreError
from mastaf.fewshot.buffers import Buffers
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.cubes.chunk import Chunk
from mastaf.fewshot.cubes.residence import choose_residence
from mastaf.fewshot.cubes.views import draw_views, training_views
from mastaf.fewshot.episodes.episode import EpisodeRows
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


ZSTD, INT8 = {"compress": "zstd"}, {"dtype": "int8"}
KINDS = [
    (".zarr", {}, "ram"),
    (".zarr", {}, "mmap"),
    (".zarr", {}, "stream"),
    (".h5", {}, "ram"),
    (".h5", {}, "mmap"),
    (".zarr", ZSTD, "ram"),
    (".zarr", ZSTD, "stream"),
    (".zarr", INT8, "ram"),
    (".zarr", INT8, "stream"),
    (".zarr", ZSTD | INT8, "stream"),
    (".h5", INT8, "ram"),
    ("s3", {}, "ram"),
    ("s3", {}, "stream"),
    ("s3", ZSTD, "stream"),
    ("s3", INT8, "ram"),
    ("s3", INT8, "stream"),
]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, suffix: str) -> Any:
    """Where a store of a kind is to be."""
    if suffix == "s3":
        return request.getfixturevalue("bucket").new_place() / "s.zarr"
    return tmp_path / f"s{suffix}"


@pytest.mark.parametrize(("suffix", "how", "kind"), KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_episodes_hold_the_stored_cubes(
    place: Any, make_store: Make, how: dict[str, str], kind: str, threads: int
) -> None:
    # Two views, one failed row, several shards.
    store = make_store(
        place,
        cube_shape=(40, 2, 21, 20),
        videos=3,
        views=("plain", "flip"),
        failed=["jump/001"],
        **how,
    )
    bank = FeatureBank(store, "val", views=(0, 1), bank=kind)
    assert len(bank) == 8
    assert bank.residence.kind == kind
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


@pytest.mark.parametrize(("suffix", "how", "kind"), KINDS)
@pytest.mark.parametrize("shot", [1, 3])
def test_related_episodes_are_those_of_the_cubes(
    place: Any, make_store: Make, how: dict[str, str], kind: str, shot: int
) -> None:
    shape = (40, 1, 2, 2)
    store = make_store(place, cube_shape=shape, views=("plain", "flip"), **how)
    bank = FeatureBank(store, "val", views=(0, 1), bank=kind)
    assert (bank.self_maps is not None) == (kind == "ram")
    chunks = []
    for seed in range(4):
        views = np.random.default_rng(seed).integers(0, 2, (3, 2 * shot + 2))
        chunks.append(Chunk(bank, some_rows(len(bank), shot=shot, seed=seed), views=views))
    for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
        chunk.following = following
        related, episode = chunk.related, FeatureBank(store, "val", views=(0, 1)).episode(chunk.rows, views=chunk.views)
        classes = episode.support.double().mean(2).flatten(3)  # [b, way, c, L]
        queries = episode.query.double().flatten(3)  # [b, q, c, L]
        expected = {
            "cross": torch.einsum("bwci,bqcj->bqwij", classes, queries),
            "class_self": torch.einsum("bwci,bwcj->bwij", classes, classes),
            "query_self": torch.einsum("bqci,bqcj->bqij", queries, queries),
            "class_squares": classes.square().sum(2),
            "query_squares": queries.square().sum(2),
        }
        for name, maps in expected.items():
            torch.testing.assert_close(getattr(related.maps, name).double(), maps, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(related.classes.double(), classes, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(related.queries.double(), queries, rtol=1e-6, atol=1e-6)
        assert torch.equal(related.labels, episode.labels)


def test_bf16_banks_round_cubes_and_products_alone(toy_store: Any) -> None:
    exact, rounded = (FeatureBank(toy_store, "test", dtype=dtype) for dtype in (torch.float16, torch.bfloat16))
    rows = some_rows(len(exact), shot=3)
    maps = [Chunk(bank, rows).related.maps.cross for bank in (exact, rounded)]
    assert maps[1].dtype == torch.float32
    error = (maps[0] - maps[1]).abs().max() / maps[0].abs().max()
    assert 0 < float(error) < 0.02
    episode = exact.episode(rows).support.bfloat16().float()
    assert torch.equal(rounded.episode(rows).support, episode)


def test_the_bank_follows_from_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mastaf.fewshot.cubes.residence.free_memory", lambda: 10 * 10**9)
    cpu = torch.device("cpu")
    for nbytes, compressed, remote, kind in (
        (5 * 10**9, False, False, "ram"),
        (5 * 10**9, True, False, "ram"),
        (5 * 10**9, False, True, "ram"),
        (9 * 10**9, False, False, "mmap"),
        (9 * 10**9, True, False, "stream"),
        (9 * 10**9, False, True, "stream"),
    ):
        found = choose_residence(None, nbytes=nbytes, device=cpu, compressed=compressed, format=".zarr", remote=remote)
        assert found.kind == kind
        assert f"{nbytes / 1e9:.2f} GB" in str(found)
    facts: dict[str, Any] = {"device": cpu, "compressed": False, "remote": False, "dtype": "int8"}
    assert choose_residence(None, nbytes=5 * 10**9, format=".h5", **facts).kind == "ram"
    assert choose_residence(None, nbytes=9 * 10**9, format=".zarr", **facts).kind == "stream"
    with pytest.raises(FewShotError, match=r"9\.00 GB are too much .*; mastaf-cache convert to \.zarr"):
        choose_residence(None, nbytes=9 * 10**9, format=".h5", **facts)


@pytest.mark.parametrize(
    ("asked", "facts", "words"),
    [
        ("disk", {}, r"bank \(disk\) must be one of gpu, ram, mmap, stream"),
        ("gpu", {}, r"bank \(gpu\) must go with an accelerator, not --device cpu"),
        ("mmap", {"remote": True}, "store on a disk"),
        ("mmap", {"compressed": True}, "not compressed; give --bank ram or stream"),
        ("mmap", {"dtype": "int8"}, r"float16 cubes, and these are int8; give --bank ram or stream"),
        ("stream", {"format": ".h5"}, r"\.zarr store, not \.h5; give --bank mmap or ram"),
        ("stream", {"format": ".h5", "dtype": "int8"}, r"\.zarr store, not \.h5; give --bank ram$"),
    ],
)
def test_banks_that_cannot_be_are_refused(asked: str, facts: dict[str, Any], words: str) -> None:
    given = {
        "nbytes": 1,
        "device": torch.device("cpu"),
        "compressed": False,
        "format": ".zarr",
        "remote": False,
        **facts,
    }
    with pytest.raises(FewShotError, match=words):
        choose_residence(asked, **given)


def test_a_stream_refuses_shards_that_the_store_refuses(tmp_path: Path, make_store: Make) -> None:
    store = make_store(tmp_path / "s.zarr")
    shard = store.shard_path(0)
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    bank = FeatureBank(store, "train", bank="stream")
    with pytest.raises(CorruptStoreError):
        bank.cubes(np.array([0]))


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
@pytest.mark.parametrize("kind", ["ram", "mmap"])
def test_a_cube_that_is_not_finite_is_named(
    tmp_path: Path, make_store: Make, monkeypatch: pytest.MonkeyPatch, value: float, kind: str
) -> None:
    store = make_store(tmp_path / "s.zarr")
    real = type(store).mapped

    def damaged(self: Any, shard: int) -> np.ndarray:
        cubes = real(self, shard).copy()
        if shard == 0:
            cubes[2, 0, 1, 0, 1, 1] = value
        return cubes

    monkeypatch.setattr(type(store), "mapped", damaged)
    bank = FeatureBank(store, "train", bank=kind)
    out = torch.empty(1, 4, 6)
    for position in (0, 1, 3) if kind == "mmap" else ():
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


def test_views_without_a_flip_are_always_drawn(tmp_path: Path, make_store: Make) -> None:
    views = ("plain", "t1", "topleft+t1+flip", "topleft", "flip", "t2")
    loses = make_store(tmp_path / "a.zarr", views=views, flip_keeps_class=False)
    assert training_views(loses.header) == (0, 1, 3, 5)
    keeps = make_store(tmp_path / "b.zarr", views=views)
    assert training_views(keeps.header) == (0, 1, 2, 3, 4, 5)
    drawn = draw_views(3, 0, 500, 7, training_views(loses.header))
    assert set(drawn.ravel().tolist()) == {0, 1, 3, 5}
    counts = np.bincount(drawn.ravel())[[0, 1, 3, 5]]
    assert abs(counts / drawn.size - 0.25).max() < 0.03


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
