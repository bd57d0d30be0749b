"""Source-disjoint episodes: the random ones, without a query's own recording among the supports of its class."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.episodes.episode_list import read_episode_list
from mastaf.fewshot.episodes.listing import draw_listing, read_listing, write_listing
from mastaf.fewshot.episodes.philox import key_of, random_words
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.episodes.sources import shared_queries, source_numbers
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate
from mastaf.fewshot.statistics.protocol_gap import evaluate_both

NEIGHBOR: dict[str, Any] = {"method_keywords": {"variant": "neighbor"}}


def sampler(sizes: list[list[int]], episodes_from: str = "source-disjoint", **changes: Any) -> tuple[Any, list[str]]:
    """Classes as the sizes of their sources; gives the sampler and the source of each video."""
    rows = [
        (f"c{c}/s{s:02d}_{i:02d}", f"c{c}", f"c{c}/s{s:02d}")
        for c, sources in enumerate(sizes)
        for s, size in enumerate(sources)
        for i in range(size)
    ]
    rows.sort(key=lambda row: row[0][::-1])  # any order
    keys, classes, groups = ([row[part] for row in rows] for part in range(3))
    options: dict[str, Any] = {"split": "test", "way": 2, "shot": 3, **changes}
    made = EpisodeSampler(keys=keys, classes=classes, groups=groups, episodes_from=episodes_from, **options)
    return made, groups


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 4), min_size=9, max_size=12), min_size=2, max_size=4),
    shot=st.integers(1, 4),
    queries=st.integers(1, 2),
    single=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_no_query_meets_its_source_and_nothing_else_changes(
    sizes: list[list[int]], shot: int, queries: int, single: bool, seed: int
) -> None:
    mode = {"query_mode": "single"} if single else {"query_mode": "per_class", "queries": queries}
    draw, groups = sampler(sizes, shot=shot, seed=seed, **mode)
    plain, _ = sampler(sizes, "random", shot=shot, seed=seed, **mode)
    rows, before = draw.rows(3, 40), plain.rows(3, 40)
    for part in ("query", "labels", "classes"):
        np.testing.assert_array_equal(getattr(rows, part), getattr(before, part))
    for i in range(40):
        for w, shots in enumerate(rows.support[i].tolist()):
            asked = {groups[row] for row, n in zip(rows.query[i], rows.labels[i], strict=True) if n == w}
            assert not asked & {groups[row] for row in shots}
            assert len(set(shots)) == shot
            assert {groups[row].split("/")[0] for row in shots} == {draw.class_names[rows.classes[i, w]]}
            for now, then in zip(shots, before.support[i, w].tolist(), strict=True):
                assert now == then or groups[then] in asked


def test_replacements_follow_the_documented_recipe() -> None:
    draw, groups = sampler([[3, 2, 4], [2, 2, 5], [4, 4]], shot=2, seed=5)
    plain, _ = sampler([[3, 2, 4], [2, 2, 5], [4, 4]], "random", shot=2, seed=5)
    key = key_of("mastaf source-disjoint 1", 5, "test", 2, 2, "single", 1)
    keys = sorted(_keys([[3, 2, 4], [2, 2, 5], [4, 4]]), key=lambda k: k[::-1])
    for i in range(200):
        before, after = plain.rows(i, 1), draw.rows(i, 1)
        asked, label = int(before.query[0, 0]), int(before.labels[0, 0])
        support = before.support[0].tolist()
        words = random_words(key, np.array([i], dtype=np.uint64), 4)[0].tolist()
        kept = [row for row in support[label] if groups[row] != groups[asked]]
        left = [
            row
            for row in sorted(range(len(keys)), key=lambda row: keys[row])
            if keys[row].split("/")[0] == keys[asked].split("/")[0] and groups[row] != groups[asked] and row not in kept
        ]
        for place, row in enumerate(support[label]):
            if groups[row] == groups[asked]:
                support[label][place] = left.pop(words[label * 2 + place] * len(left) >> 64)
        assert after.support[0].tolist() == support


def _keys(sizes: list[list[int]]) -> list[str]:
    return [
        f"c{c}/s{s:02d}_{i:02d}" for c, sources in enumerate(sizes) for s, n in enumerate(sources) for i in range(n)
    ]


def test_supports_are_a_uniform_choice_of_the_other_sources() -> None:
    draw, groups = sampler([[3, 1, 2], [2, 2, 2]], way=2, shot=2)
    rows = draw.rows(0, 30_000)
    counts: dict[int, Counter[tuple[int, ...]]] = {}
    asked = np.take_along_axis(rows.support, rows.labels[:, :, None], axis=1)[:, 0]  # [b, shot]
    for query, shots in zip(rows.query[:, 0].tolist(), asked.tolist(), strict=True):
        counts.setdefault(query, Counter())[tuple(shots)] += 1
    assert len(counts) == 12
    for query, seen in counts.items():
        others = sum(g != groups[query] and g[:2] == groups[query][:2] for g in groups)
        assert len(seen) == others * (others - 1)  # every ordered pair
        expected = sum(seen.values()) / len(seen)
        assert all(abs(count - expected) < 5 * expected**0.5 for count in seen.values())


def test_a_batch_does_not_matter() -> None:
    draw, _ = sampler([[3, 2, 4], [2, 2, 5]], shot=2)
    whole = draw.rows(0, 60)
    np.testing.assert_array_equal(np.concatenate([draw.rows(i, 4).support for i in range(0, 60, 4)]), whole.support)


def test_videos_without_a_known_source_are_sources_of_their_own() -> None:
    assert source_numbers(["a", "", "", "a"]).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups": None}, "none is known of split 'test'"),
        ({"groups": [""] * 6}, "none is known of split 'test'.*column group"),
        ({"groups": ["a"]}, "must have one length"),
        ({"episodes_from": "disjoint"}, "must be one of random, source-disjoint"),
        ({"groups": ["a", "a", "b"] * 2, "shot": 2, "episodes_from": "source-disjoint"}, "lower --shot"),
    ],
)
def test_what_cannot_be_kept_apart_is_said(change: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {"groups": ["x", "y", "z"] * 2, "episodes_from": "source-disjoint", "shot": 1, **change}
    with pytest.raises(FewShotError, match=words):
        keys = [f"{c}{i}" for c in "ab" for i in range(3)]
        EpisodeSampler(keys=keys, classes=list("aaabbb"), split="test", way=2, **options).rows(0, 50)


@pytest.fixture(scope="module")
def leaky(make_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Noisy cubes, and two clips from each recording."""
    path = tmp_path_factory.mktemp("leaky") / "s.zarr"
    return make_store(path, separation=0.7, group_of=lambda key: f"{key[:-3]}g{int(key[-3:]) // 2}")


def test_a_list_says_how_often_a_query_meets_its_source(leaky: Any, tmp_path: Path) -> None:
    bank = FeatureBank(leaky, "test")
    drawn: dict[str, Any] = {"episodes": 400, "list_seed": 1, "way": 3, "shot": 3, "query_mode": "single", "queries": 1}
    listing = draw_listing(bank, **drawn)
    source = [(key[:-3], int(key[-3:]) // 2) for key in bank.keys]
    rows, met = listing.rows, 0
    for i in range(400):
        asked, label = rows.query[i, 0], rows.labels[i, 0]
        met += sum(source[row] == source[asked] for row in rows.support[i, label])
    assert listing.source_shared == pytest.approx(met / 400)  # two clips a recording: at most one support
    disjoint = draw_listing(bank, **drawn, episodes_from="source-disjoint")
    assert disjoint.source_shared == 0
    assert disjoint.digest != listing.digest


def test_both_protocols_in_one_command(leaky: Any, tmp_path: Path) -> None:
    found = evaluate_both(leaky, way=3, shot=3, episodes=500, out=tmp_path, **NEIGHBOR)
    random, disjoint = found.random.record, found.disjoint.record
    assert (random["episodes_from"], disjoint["episodes_from"]) == ("random", "source-disjoint")
    assert random["source_shared"] > 0.3 > disjoint["source_shared"] == 0
    assert found.gap.mean == pytest.approx(random["accuracy"] - disjoint["accuracy"])
    np.testing.assert_array_equal(found.random.predictions.query_row, found.disjoint.predictions.query_row)
    assert found.random.path != found.disjoint.path
    with pytest.raises(FewShotError, match="leave --episodes-from both or --episode-list out"):
        evaluate_both(leaky, episode_list=tmp_path / "l", **NEIGHBOR)


def test_without_known_sources_nothing_is_claimed(toy_store: Any, tmp_path: Path) -> None:
    assert evaluate(toy_store, way=3, episodes=20, out=tmp_path, **NEIGHBOR)["source_shared"] is None
    with pytest.raises(FewShotError, match="none is known of split 'test'"):
        evaluate_both(toy_store, way=3, episodes=20, out=tmp_path / "new", **NEIGHBOR)
    assert not (tmp_path / "new").exists()


def test_a_list_on_disk_keeps_its_protocol(leaky: Any, make_store: Any, tmp_path: Path) -> None:
    drawn: dict[str, Any] = {"split": "test", "episodes": 60, "way": 3, "shot": 2, "episodes_from": "source-disjoint"}
    written = write_listing(leaky, out=tmp_path / "l.txt", **drawn)
    assert (written["source_shared"], read_episode_list(tmp_path / "l.txt").header["episodes_from"]) == (
        0,
        drawn["episodes_from"],
    )
    found = read_listing(FeatureBank(leaky, "test"), tmp_path / "l.txt")
    assert (found.episodes_from, found.source_shared) == ("source-disjoint", 0)
    record = evaluate(leaky, episode_list=tmp_path / "l.txt", out=tmp_path, **NEIGHBOR)
    assert record["episodes_from"] == "source-disjoint"
    assert record["episode_list"] == written["sha256"]
    # A store that knows of other sources: the claim no longer holds.
    other = make_store(tmp_path / "o.zarr", group_of=lambda key: key[:-3])
    with pytest.raises(FewShotError, match=r"is source-disjoint by its first line, but 100.0 %"):
        read_listing(FeatureBank(other, "test"), tmp_path / "l.txt")


def test_shared_queries_equal_loops() -> None:
    draw, groups = sampler([[3, 2, 4], [2, 2, 5], [1] * 8], "random", shot=3, query_mode="per_class", queries=2)
    rows = draw.rows(0, 50)
    found = shared_queries(rows, source_numbers(groups))
    for i in range(50):
        for n, (asked, label) in enumerate(zip(rows.query[i], rows.labels[i], strict=True)):
            assert found[i, n] == any(groups[row] == groups[asked] for row in rows.support[i, label])


def test_the_gap_from_the_command_line(call: Any, leaky: Any, tmp_path: Path) -> None:
    shared = ("--features", leaky.path, "--way", 3, "--shot", 3, "--episodes", 300)
    arguments = ("evaluate", *shared, "--variant", "neighbor", "--episodes-from", "both", "--json", "gap.json")
    status, out, _ = call(*arguments)
    assert status == 0
    assert "| source-disjoint | " in out
    assert "gap on the same queries: " in out
    saved = json.loads((tmp_path / "gap.json").read_text())
    difference = saved["random"]["accuracy"] - saved["source-disjoint"]["accuracy"]
    assert saved["gap"]["mean"] == pytest.approx(difference)
    status, out, _ = call("episodes", *shared, "--out", "l")
    assert status == 0
    share = f"{100 * saved['random']['source_shared']:.1f} % of the queries have a video of their own source"
    assert share in out


def test_a_score_from_the_command_line_tells_mistakes(call: Any, leaky: Any, tmp_path: Path) -> None:
    arguments = ("--features", leaky.path, "--variant", "neighbor", "--way", 3, "--episodes", 300, "--json", "e.json")
    status, out, _ = call("evaluate", *arguments)
    assert status == 0
    assert "calibration error " in out
    assert "taken for" in out
    saved = json.loads((tmp_path / "e.json").read_text())
    answered = np.array(saved["confusion"]["answered"])
    assert answered.sum() == 300
    assert np.trace(answered) == round(300 * saved["accuracy"])
    assert (answered <= np.array(saved["confusion"]["offered"])).all()
