"""Heads that read means of cubes score a list from the means of its videos as they do from its cubes."""

import numpy as np
import pytest
import torch
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.episodes.randomness import EpisodeRandom
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.scoring import KeptMaps, score_episodes

pytestmark = pytest.mark.usefixtures("one_thread")

CUBE = (6, 3, 2, 2)
SMALL = {
    "baseline": {"epochs": 5},
    "baselinepp": {"epochs": 5},
    "protogan": {"hidden": 8},
    "arn": {"channels": 16, "width": 4},
    "trx": {"width": 8},
    "cmn_j": {"key_size": 8},
}


@pytest.fixture(scope="module")
def bank(make_store, tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("reduced") / "cubes.zarr", cube_shape=CUBE, separation=0.5)
    return FeatureBank(store, "test")


@pytest.fixture(scope="module")
def rows(bank):
    drawn = {"way": 3, "shot": 2, "query_mode": "per_class", "queries": 2}
    return EpisodeSampler(keys=bank.keys, classes=bank.classes, split="test", **drawn).rows(0, 40)


def build(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_method(name).build(cube_shape=CUBE, n_train_classes=4, **SMALL.get(name, {}))


READERS = [name for name in METHODS if build(name).readout != "cube" or name == "arn"]


@pytest.mark.parametrize("name", READERS)
def test_a_list_is_scored_as_its_cubes_are(name, bank, rows, monkeypatch):
    monkeypatch.setattr("mastaf.fewshot.scoring._CHUNK_EPISODES", 16)
    method, done = build(name), []
    found = score_episodes(method, bank, rows, seed=5, advance=done.append, kept=KeptMaps())
    assert sum(done) == len(rows)
    with torch.no_grad():
        parts = [(bank.episode(rows[i : i + 1]), EpisodeRandom(5, i)) for i in range(len(rows))]
        plain = torch.cat([method.eval().score(episode, random) for episode, random in parts])
    np.testing.assert_allclose(found, plain.numpy(), rtol=1e-4, atol=1e-4)


def test_trx_maps_videos_in_parts_where_all_are_too_many(bank, rows, monkeypatch):
    method = build("trx")
    whole = score_episodes(method, bank, rows)
    monkeypatch.setattr("mastaf.fewshot.methods.trx._MAPPED_BYTES", 1)
    np.testing.assert_allclose(score_episodes(method, bank, rows), whole, rtol=1e-5, atol=1e-5)


def test_each_video_is_read_once(bank, rows, monkeypatch):
    asked = []
    gather = FeatureBank.gather
    monkeypatch.setattr(FeatureBank, "gather", lambda self, p, v, out: asked.append(p) or gather(self, p, v, out))
    score_episodes(build("otam"), bank, rows)
    read = np.concatenate(asked)
    assert len(read) == len(set(read.tolist())) <= len(bank)


def test_an_adapter_needs_the_cubes():
    assert load_method("otam").build(cube_shape=CUBE, n_train_classes=4, adapter=True).readout == "cube"
