"""Scores of a whole list, video by video, against those of relation maps; and the grouping of pairs by their videos."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.episodes.randomness import EpisodeRandom
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.methods import mastaf_list
from mastaf.fewshot.methods.mastaf import MASTAF
from mastaf.fewshot.methods.pair_groups import group_pairs
from mastaf.fewshot.scoring import KeptMaps, score_episodes

pytestmark = pytest.mark.usefixtures("one_thread")
CUBE = (12, 2, 3, 1)
options = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(("code", "paper")),
        "variant": st.sampled_from(("full", "self", "cross", "neighbor")),
        "meta_learner": st.booleans(),
        "residual": st.booleans(),
    },
    optional={
        "meta_norm": st.sampled_from(("none", "bn")),
        "query_self_norm": st.sampled_from(("skip", "authors")),
        "reduce": st.sampled_from(("sum", "mean")),
        "fusion": st.sampled_from(("prob", "logit")),
        "normalize_maps": st.booleans(),
        "alpha": st.sampled_from((0, 0.5, 3.0)),
        "tau": st.sampled_from((0.025, 0.5)),
    },
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, make_store: Any) -> Any:
    path = tmp_path_factory.mktemp("list") / "s.zarr"
    return make_store(path, cube_shape=CUBE, separation=0.5, failed=["nod/000"], videos={"lift": 3})


def draw(bank: FeatureBank, count: int, **given: Any) -> Any:
    asked = {"way": 3, "shot": 1, "query_mode": "single", "queries": 1, **given}
    return EpisodeSampler(keys=bank.keys, classes=bank.classes, split=bank.split, seed=0, **asked).rows(0, count)


def build(seed: int = 0, **keywords: Any) -> MASTAF:
    """A MASTAF with every number random."""
    torch.manual_seed(seed)
    method = MASTAF.build(cube_shape=CUBE, n_train_classes=6, **keywords)
    for name, value in method.state_dict().items():
        value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value) * 0.5)
    assert isinstance(method, MASTAF)
    return method


@settings(max_examples=40, deadline=None)
@given(option=options, way=st.integers(2, 4), queries=st.sampled_from((0, 1, 2)), seed=st.integers(0, 99))
def test_a_list_is_scored_as_its_maps_are(
    store: Any, option: dict[str, Any], way: int, queries: int, seed: int
) -> None:
    bank, method = FeatureBank(store, "test"), build(seed, **option)
    mode = {"query_mode": "per_class", "queries": queries} if queries else {}
    rows = draw(bank, 25, way=way, **mode)
    assert mastaf_list.can_score_list(method, bank, rows)
    found, expected = score_episodes(method, bank, rows), score_episodes(method, bank, rows, kept=KeptMaps())
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_blocks_and_rows_of_any_size_give_the_same_scores(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, method = FeatureBank(store, "test"), build()
    rows, done = draw(bank, 60), []
    whole = score_episodes(method, bank, rows)
    monkeypatch.setattr(mastaf_list, "_PAIR_BYTES", 2 * 4 * 12 * 3 * 7)
    monkeypatch.setattr(mastaf_list, "_MOST", 2)
    monkeypatch.setattr(mastaf_list, "_ROWS", 5)
    np.testing.assert_allclose(score_episodes(method, bank, rows, advance=done.append), whole, rtol=1e-5, atol=1e-5)
    assert sum(done) == 60
    assert len(done) > 3


def test_a_cube_of_zeros_scores_zero(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, method = FeatureBank(store, "test"), build()
    real = FeatureBank.gather

    def emptied(self: FeatureBank, positions: np.ndarray, views: np.ndarray, out: torch.Tensor) -> torch.Tensor:
        real(self, positions, views, out)[torch.from_numpy(positions % 3 == 0)] = 0
        return out

    monkeypatch.setattr(FeatureBank, "gather", emptied)
    rows = draw(bank, 20)
    logits = score_episodes(method, bank, rows)
    empty = np.broadcast_to((rows.query % 3 == 0)[..., None], logits.shape)
    assert np.isfinite(logits).all()
    assert np.abs(logits[empty]).max() < 1e-6
    assert np.abs(logits[~empty]).max() > 0.1


def test_bf16_is_near(store: Any) -> None:
    exact, rounded = (FeatureBank(store, "test", dtype=dtype) for dtype in (torch.float16, torch.bfloat16))
    method, rows = build(tau=0.5), draw(exact, 50)
    difference = np.abs(score_episodes(method, exact, rows) - score_episodes(method, rounded, rows))
    assert 1e-5 < difference.max() < 0.3


@pytest.mark.parametrize(
    ("given", "bank", "reads"),
    [
        ({}, "ram", True),
        ({"count": 3}, "ram", False),
        ({"shot": 2}, "ram", False),
        ({"test_metric": "flat"}, "ram", False),
        ({}, "mmap", False),
    ],
)
def test_where_a_list_cannot_be_scored_at_once(store: Any, given: dict[str, Any], bank: str, reads: bool) -> None:
    given = dict(given)
    shot, count = given.pop("shot", 1), given.pop("count", 50)
    videos = FeatureBank(store, "test", bank=bank)
    rows = draw(videos, count, shot=shot)
    assert (build(**given).eval().score_rows(videos, rows, EpisodeRandom()) is not None) == reads


def test_scores_do_not_depend_on_the_number_of_threads(store: Any) -> None:
    bank, method = FeatureBank(store, "test"), build()
    rows = draw(bank, 200)
    listed, mapped = score_episodes(method, bank, rows), score_episodes(method, bank, rows, kept=KeptMaps())
    torch.set_num_threads(3)
    try:
        np.testing.assert_array_equal(score_episodes(method, bank, rows), listed)
        np.testing.assert_array_equal(score_episodes(method, bank, rows, kept=KeptMaps()), mapped)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


@settings(max_examples=60, deadline=None)
@given(videos=st.lists(st.integers(0, 6), min_size=1, max_size=60), rows=st.integers(1, 5), most=st.integers(1, 7))
def test_every_pair_is_in_one_group_of_its_video(videos: list[int], rows: int, most: int) -> None:
    seen: list[int] = []
    for chosen, members in group_pairs(np.array(videos), rows=rows, most=most):
        assert len(chosen) == len(members) <= rows
        assert members.shape[1] <= most
        for video, row in zip(chosen, members, strict=True):
            real = row[row < len(videos)]
            assert len(real) > 0
            assert all(videos[pair] == video for pair in real)
            assert (row[len(real) :] == len(videos)).all()
            seen += real.tolist()
    assert sorted(seen) == list(range(len(videos)))
