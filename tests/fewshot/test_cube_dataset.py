"""Stored cubes as data sets of torch: the same cubes and episodes, in any worker."""

import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.index import DONE
from mastaf.cache.store import open_store
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.cubes.dataset import CubeDataset, EpisodeDataset
from mastaf.fewshot.cubes.views import draw_views
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.episodes.episode_list import read_episode_list
from mastaf.fewshot.episodes.listing import write_listing
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods.registry import load_method
from torch.utils.data import DataLoader

EXAMPLE = Path(__file__).parents[2] / "examples" / "torch_dataset.py"
FAILED = ("bow/003", "lift/000", "open/007")
# Python 3.12 and later say so of every fork in a process with threads, which torch has.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture(scope="module", params=[".zarr", ".h5"])
def store(request, make_store, tmp_path_factory) -> Any:
    """Two views, three failed rows; never changed."""
    path = tmp_path_factory.mktemp("store") / f"s{request.param}"
    return make_store(path, views=("plain", "flip"), failed=FAILED, group_of=lambda key: key[:-1])


def by_hand(store: Any, key: str, view: int) -> np.ndarray:
    """The cube of a key, float16 [c, t, h, w]."""
    return store.read([store.index.keys.index(key)], view)[0]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_items_are_the_usable_videos(store, split):
    videos = CubeDataset(store, split=split)
    usable = [row for row in store.rows_of(split) if store.states()[row] == DONE]
    assert videos.keys == tuple(store.index.keys[row] for row in usable)
    assert not set(videos.keys) & set(FAILED)
    assert videos.coverage["failed"] == sum(store.index.splits[store.index.keys.index(key)] == split for key in FAILED)
    assert len(videos) == len(list(videos)) == len(usable)  # a plain `for` ends
    for (cube, label), row in zip(videos, usable, strict=True):
        assert cube.dtype == torch.float32
        np.testing.assert_array_equal(cube.numpy(), by_hand(store, store.index.keys[row], 0))
        assert videos.class_names[label] == store.index.classes[row]
    assert list(videos.class_names) == sorted(videos.class_names)


def test_views_follow_one_another(store):
    both, n = CubeDataset(store, split="val", views=("flip", "plain")), len(CubeDataset(store, split="val"))
    assert len(both) == 2 * n
    for item in (0, n - 1, n, 2 * n - 1, -1):
        cube, label = both[item]
        place = item % (2 * n)
        np.testing.assert_array_equal(cube.numpy(), by_hand(store, both.keys[place % n], 1 if place < n else 0))
        assert label == both.labels[place % n]


def test_cubes_are_of_the_type_asked_for(store):
    half, wide = (CubeDataset(store, split="val", dtype=kind) for kind in (torch.float16, torch.float64))
    assert (half[5][0].dtype, wide[5][0].dtype) == (torch.float16, torch.float64)
    assert torch.equal(half[5][0].double(), wide[5][0])


def loaded(data: Any, **how: Any) -> list[Any]:
    return list(DataLoader(data, batch_size=5, **how))


def test_workers_read_what_one_process_reads(store):
    videos = CubeDataset(store, split="train", views=("plain", "flip"))
    alone, shared = loaded(videos), loaded(videos, num_workers=2)
    assert alone[0][0].shape == (5, *store.spec.cube_shape)
    assert alone[0][1].dtype == torch.int64
    for (cubes, labels), (same_cubes, same_labels) in zip(alone, shared, strict=True):
        assert torch.equal(cubes, same_cubes)
        assert torch.equal(labels, same_labels)


def test_what_is_sent_to_another_process_reads_the_same(store):
    episodes = EpisodeDataset(store, way=3, episodes=4)
    again = pickle.loads(pickle.dumps(episodes))
    assert len(pickle.dumps(episodes)) < 20_000  # the path of the store, and no cubes
    for one, other in zip(episodes, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_spawned_workers(toy_store):
    """Of one kind of store: a process takes seconds, and what is sent to it is tested above."""
    episodes = EpisodeDataset(toy_store, way=3, episodes=7)
    found = loaded(episodes, num_workers=1, multiprocessing_context="spawn")
    for batch, alone in zip(found, loaded(episodes), strict=True):
        assert all(torch.equal(batch[name], alone[name]) for name in alone)


def test_forked_workers_are_refused_for_object_storage(make_store, tmp_path, monkeypatch):
    """They would wait for ever: its client's threads are not in the forked process."""
    store = make_store(tmp_path / "s.zarr")
    monkeypatch.setattr(type(store), "is_remote", True)
    videos = CubeDataset(store, split="val")
    assert videos[0][1] == 0
    # A real fork of a process with the store's threads takes the loader five seconds to be rid of.
    with (
        monkeypatch.context() as forked,
        pytest.raises(FewShotError, match="spawned, not forked; give DataLoader"),
    ):
        forked.setattr("os.getpid", lambda: -1)
        videos[0]
    assert pickle.loads(pickle.dumps(videos))[0][1] == 0


DRAWN: list[dict[str, Any]] = [
    {"split": "test", "way": 4, "shot": 1},
    {"split": "test", "way": 3, "shot": 2, "query_mode": "per_class", "queries": 2, "seed": 2**40},
    {"split": "train", "way": 5, "shot": 3, "seed": 1},
    {"split": "test", "way": 2, "shot": 2, "episodes_from": "source-disjoint"},
]


@pytest.mark.parametrize("drawn", DRAWN, ids=str)
def test_episodes_are_those_of_the_list_on_disk(make_store, tmp_path, drawn):
    """The list file is the independent witness: its keys, looked up one by one."""
    store = make_store(tmp_path / "s.zarr", failed=FAILED, group_of=lambda key: f"{key[:-3]}{int(key[-3:]) // 2}")
    listed = {name: value for name, value in drawn.items() if name != "seed"}
    write_listing(store, out=tmp_path / "list", episodes=11, list_seed=drawn.get("seed", 0), **{"queries": 1} | listed)
    lists = read_episode_list(tmp_path / "list")
    found = loaded(EpisodeDataset(store, episodes=11, **drawn), num_workers=2)
    episodes = [Episode(**batch) for batch in found]
    assert [len(episode.labels) for episode in episodes] == [5, 5, 1]
    for name, of in (("support", lists.rows.support), ("query", lists.rows.query)):
        cubes = torch.cat([getattr(episode, name) for episode in episodes])  # [11, ..., c, t, h, w]
        for place in np.ndindex(of.shape):
            np.testing.assert_array_equal(cubes[place].numpy(), by_hand(store, lists.keys[of[place]], 0))
    np.testing.assert_array_equal(torch.cat([episode.labels for episode in episodes]).numpy(), lists.rows.labels)


def test_episodes_are_those_of_training(store):
    """Views drawn and global class ids, as a run of this seed has them."""
    data = EpisodeDataset(store, split="train", way=3, shot=2, episodes=6, seed=9, views=("plain", "flip"))
    bank = FeatureBank(store, "train", views=(0, 1))
    rows = EpisodeSampler(keys=bank.keys, classes=bank.classes, split="train", way=3, shot=2, seed=9).rows(0, 6)
    ids = {name: number for number, name in enumerate(bank.class_names)}
    wanted = bank.episode(rows, train_class_ids=ids, views=draw_views(9, 0, 6, 3 * 2 + 1, (0, 1)))
    (batch,) = DataLoader(data, batch_size=6)
    for name in ("support", "query", "labels", "class_ids"):
        assert torch.equal(batch[name], getattr(wanted, name)), name
    assert (EpisodeDataset(store, way=2)[0]["class_ids"] == -1).all()


def test_a_head_takes_a_batch(store):
    head = load_method("mastaf")(cube_shape=store.spec.cube_shape, n_train_classes=6, variant="neighbor")
    (batch,) = DataLoader(EpisodeDataset(store, way=4, shot=2, episodes=40), batch_size=40)
    episode = Episode(**batch)
    assert (head(episode).argmax(-1) == episode.labels).float().mean() > 0.9  # the store is separable


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda store: CubeDataset(store, split="dev"), r"split \('dev'\) has no usable video .*; name another split"),
        (lambda store: CubeDataset(store, split="val", views=("t1",)), r"view \('t1'\) must be .*: plain, flip"),
        (lambda store: CubeDataset(store, split="val", views=()), "views must name one at least, of plain, flip"),
        (lambda store: CubeDataset(store, split="val", dtype=torch.int8), r"dtype \(torch.int8\) must be a floating"),
        (lambda store: EpisodeDataset(store, episodes=0), r"episodes \(0\) must be at least 1"),
        (lambda store: EpisodeDataset(store, way=9), r"way \(9\) must be at most the 4 classes of split 'test'"),
        (lambda store: EpisodeDataset(store, way=4, shot=7), "need 8 videos a class, but 'lift' of split 'test' has 7"),
    ],
)
def test_what_cannot_be_is_said(store, make, words):
    with pytest.raises(FewShotError, match=words):
        make(store)


def test_items_that_are_not_there_are_index_errors(store):
    videos, episodes = CubeDataset(store, split="val"), EpisodeDataset(store, way=2, episodes=3)
    for data in (videos, episodes):
        for item in (len(data), -len(data) - 1):
            with pytest.raises(IndexError):
                data[item]


def test_a_store_that_is_not_whole_is_refused_unless_allowed(make_store, tmp_path):
    partial = make_store(tmp_path / "s.zarr", missing_shards=(0,))
    with pytest.raises(FewShotError, match="are not extracted yet"):
        CubeDataset(partial, split="train")
    videos = CubeDataset(partial, split="train", allow_partial=True)
    assert (videos.coverage["missing"], len(videos)) == (7, 41)


def test_a_cube_that_holds_nan_is_named(make_store, tmp_path):
    make_store(tmp_path / "s.zarr", separation=0.0, shard_rows=8)
    shard = tmp_path / "s.zarr" / "cubes" / "c.0.0.0.0.0.0"
    data = bytearray(shard.read_bytes())
    one = 2 * 6 * 1 * 2 * 2  # bytes of a cube
    data[one : one + 2] = np.array([np.nan], "<f2").tobytes()
    shard.write_bytes(bytes(data))
    videos = CubeDataset(open_store(tmp_path / "s.zarr"), split="train")
    assert torch.isfinite(videos[0][0]).all()
    with pytest.raises(FewShotError, match="the cube of 'bow/001' holds NaN or Inf; run mastaf-cache verify"):
        videos[1]


def test_the_example_runs(toy_store, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(toy_store.path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    accuracy = float(capsys.readouterr().out.removeprefix("4-way 1-shot accuracy: "))
    assert accuracy > 0.8  # the store is separable; chance is 0.25
