"""Evaluation: the record, its predictions, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.errors import SpecMismatchError
from mastaf.fewshot.checkpoint import load_run
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.episodes.episode_list import digest_of, read_episode_list
from mastaf.fewshot.episodes.listing import write_listing
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate, evaluate_fully
from mastaf.fewshot.records import read_predictions, read_record
from mastaf.fewshot.statistics.calibration import expected_calibration_error
from mastaf.fewshot.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Any]
NEIGHBOR: dict[str, Any] = {"method_keywords": {"variant": "neighbor"}}


@pytest.fixture(scope="module")
def noisy(make_store: Make, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store on which heads err now and then."""
    return make_store(tmp_path_factory.mktemp("noisy") / "noisy.zarr", separation=1.0)


@pytest.fixture(scope="module")
def run(noisy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        noisy, out=tmp_path_factory.mktemp("runs") / "run", way=3, train_episodes=32, batch=8, val_episodes=20
    ).out


@pytest.mark.parametrize("mode", ["single", "per_class"])
def test_the_record_says_what_one_episode_at_a_time_says(noisy: Any, run: Path, tmp_path: Path, mode: str) -> None:
    found = evaluate_fully(noisy, run, shot=2, episodes=60, query_mode=mode, list_seed=3, out=tmp_path)
    record = found.record
    bank, loaded = FeatureBank(noisy, "test"), load_run(run, noisy)
    method = loaded.method.eval()
    sampler = EpisodeSampler(keys=bank.keys, classes=bank.classes, split="test", way=3, shot=2, query_mode=mode, seed=3)
    accuracies, by_class, answered = [], {}, 0
    for i in range(60):
        rows = sampler.rows(i, 1)
        logits = method(bank.episode(rows)).detach().numpy()[0]  # [q, way]
        hits = [bool(np.argmax(line) == label) for line, label in zip(logits, rows.labels[0], strict=True)]
        accuracies.append(sum(hits) / len(hits))
        for q, hit in enumerate(hits):
            key = bank.keys[rows.query[0, q]]
            by_class.setdefault(key.split("/")[0], []).append(hit)
            assert noisy.index.keys[found.predictions.query_row[answered]] == key
            np.testing.assert_allclose(found.predictions.logits[answered], logits[q], rtol=1e-3, atol=1e-4)
            assert found.predictions.episode[answered] == i
            answered += 1
    assert answered == len(found.predictions.label)
    assert record["accuracy"] == pytest.approx(np.mean(accuracies))
    assert record["ci95"] == pytest.approx(1.96 * np.std(accuracies, ddof=1) / 60**0.5)
    assert found.per_class == {name: (pytest.approx(np.mean(h)), len(h)) for name, h in by_class.items()}
    low, high = record["ci95_clustered"]
    assert low <= record["accuracy"] <= high
    assert record["episode_list"] == digest_of(sampler.rows(0, 60), bank.keys)
    kept = ("method", "variant", "preset", "adapter", "way", "shot", "query_mode", "queries", "episodes", "split")
    assert [record[name] for name in kept] == ["mastaf", "full", "code", False, 3, 2, mode, 1, 60, "test"]
    assert (record["recipe"], record["store"]) == (noisy.spec.recipe, noisy.digest)
    assert (record["seed"], record["list_seed"], record["selected_on"]) == (0, 3, "val")
    on_disk = read_record(found.path)
    assert on_disk.to_json() == record
    again = read_predictions(found.path.parent / on_disk.predictions["path"], on_disk.predictions["sha256"])
    np.testing.assert_array_equal(again.logits, found.predictions.logits)


def test_a_separable_store_is_solved(toy_store: Any, tmp_path: Path) -> None:
    assert evaluate(toy_store, way=4, episodes=300, out=tmp_path, **NEIGHBOR)["accuracy"] > 0.99


def test_random_labels_are_at_chance(make_store: Make, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", separation=0.0, videos=40, split_classes={"test": "abcdefgh"})
    record = evaluate(store, episodes=2000, out=tmp_path, **NEIGHBOR)
    assert record["way"] == 5
    low, high = record["ci95_clustered"]
    assert low < 0.2 < high
    assert abs(record["accuracy"] - 0.2) < 2 * record["ci95"]


def test_chunks_do_not_change_the_answers(noisy: Any, run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    whole = evaluate_fully(noisy, run, episodes=50, out=tmp_path / "a").predictions
    monkeypatch.setattr("mastaf.fewshot.scoring._CHUNK_EPISODES", 7)
    chunked = evaluate_fully(noisy, run, episodes=50, out=tmp_path / "b").predictions
    np.testing.assert_allclose(chunked.logits, whole.logits, rtol=1e-4, atol=1e-5)


def test_other_weights_of_a_run_have_records_of_their_own(noisy: Any, run: Path, tmp_path: Path) -> None:
    best = evaluate_fully(noisy, run, episodes=10, out=tmp_path)
    last = evaluate_fully(noisy, run / "last.safetensors", episodes=10, out=tmp_path)
    assert (best.record["selected_on"], last.record["selected_on"]) == ("val", "none")
    assert [read_record(found.path).to_json() for found in (best, last)] == [best.record, last.record]


def test_way_and_shot_are_the_runs_unless_given(noisy: Any, run: Path) -> None:
    assert (lambda r: (r["way"], r["shot"]))(evaluate(noisy, run, episodes=10)) == (3, 1)
    assert (lambda r: (r["way"], r["shot"]))(evaluate(noisy, run, episodes=10, way=4, shot=3)) == (4, 3)


def test_an_episode_list_is_scored_as_if_drawn(noisy: Any, run: Path, tmp_path: Path) -> None:
    drawn = {"split": "test", "episodes": 40, "way": 3, "shot": 2, "list_seed": 9, "query_mode": "per_class"}
    written = write_listing(noisy, out=tmp_path / "list.txt", queries=2, **drawn)
    assert read_episode_list(tmp_path / "list.txt").sha256 == written["sha256"]
    from_file = evaluate(noisy, run, episode_list=tmp_path / "list.txt")
    from_seed = evaluate(noisy, run, queries=2, **drawn)
    same = ("accuracy", "ci95", "ci95_clustered", "episode_list", "way", "shot", "queries", "query_mode", "episodes")
    assert {name: from_file[name] for name in same} == {name: from_seed[name] for name in same}
    assert (from_file["list_seed"], from_seed["list_seed"]) == (None, 9)


def test_a_list_of_videos_that_the_store_lacks(noisy: Any, run: Path, tmp_path: Path, make_store: Make) -> None:
    write_listing(noisy, out=tmp_path / "list.txt", split="test", episodes=40, way=3, shot=1)
    less = make_store(tmp_path / "less.zarr", separation=1.0, failed=["mop/003"])
    with pytest.raises(FewShotError, match="lacks: 'mop/003'"):
        evaluate(less, run, episode_list=tmp_path / "list.txt")
    with pytest.raises(FewShotError, match="lacks"):
        evaluate(noisy, run, split="val", episode_list=tmp_path / "list.txt")


def test_contradictions_are_refused(noisy: Any, run: Path, tmp_path: Path) -> None:
    with pytest.raises(FewShotError, match="a checkpoint fixes the method"):
        evaluate(noisy, run, **NEIGHBOR)
    with pytest.raises(FewShotError, match=r"fixes --episodes, --way already; leave them out"):
        evaluate(noisy, run, episode_list=tmp_path / "list.txt", episodes=5, way=3)
    with pytest.raises(FewShotError, match=r"depend on parameters that must be trained.*--checkpoint"):
        evaluate(noisy, method="mastaf")
    with pytest.raises(FewShotError, match=r"episodes \(1\) must be at least 2"):
        evaluate(noisy, run, episodes=1)
    with pytest.raises(FewShotError, match=r"queries \(3\) must be 1 in query mode 'single'"):
        evaluate(noisy, run, queries=3, episodes=5)


def test_weights_that_give_no_numbers_are_refused(noisy: Any, run: Path, monkeypatch: Any, tmp_path: Path) -> None:
    from mastaf.fewshot.methods.mastaf import MASTAF

    real = MASTAF.fuse
    monkeypatch.setattr(MASTAF, "fuse", lambda self, *cosines: real(self, *cosines) * float("nan"))
    with pytest.raises(FewShotError, match="scores of episode 0 are not finite"):
        evaluate(noisy, run, episodes=5, out=tmp_path)
    assert not (tmp_path / "results").exists()


def test_the_record_knows_calibration_and_where_the_run_is_from(noisy: Any, run: Path, tmp_path: Path) -> None:
    found = evaluate_fully(noisy, run, episodes=50, out=tmp_path)
    answers = found.predictions
    assert found.record["ece"] == expected_calibration_error(answers.logits, answers.label)
    assert found.record["trained_on"] == {"dataset": "toy", "split_scheme": "toy", "store": noisy.digest}
    assert evaluate(noisy, way=3, episodes=50, out=tmp_path, **NEIGHBOR)["trained_on"] is None


class TestAnotherStore:
    """Training on one store and testing on another: across domains, but never on classes that training saw."""

    def test_of_the_same_recipe_is_scored_and_told_apart(
        self, noisy: Any, run: Path, make_store: Make, tmp_path: Path
    ) -> None:
        other = make_store(tmp_path / "o.zarr", dataset="other", split_classes={"test": ("row", "sit", "tip")}, seed=1)
        record = evaluate(other, run, episodes=30, out=tmp_path)
        assert record["store"] == other.digest
        assert record["trained_on"]["store"] == noisy.digest
        assert (record["seed"], record["selected_on"], record["seen_classes"]) == (0, "val", [])

    def test_classes_seen_in_training_are_refused_unless_allowed(
        self, run: Path, make_store: Make, tmp_path: Path
    ) -> None:
        other = make_store(tmp_path / "o.zarr", split_classes={"test": ("Clap", "D i-g", "row", "sit")})
        with pytest.raises(FewShotError, match=r"trained on 2 of the 4 test classes .*'Clap', 'D i-g'.*--allow-seen"):
            evaluate(other, run, episodes=30, out=tmp_path)
        assert not (tmp_path / "results").exists()
        record = evaluate(other, run, episodes=30, out=tmp_path, allow_seen_classes=True)
        assert record["seen_classes"] == ["Clap", "D i-g"]

    def test_of_another_recipe_is_refused(self, run: Path, make_store: Make, tmp_path: Path) -> None:
        other = make_store(tmp_path / "o.zarr", frames=8, split_classes={"test": ("row", "sit", "tip")})
        with pytest.raises(SpecMismatchError, match="frames: 16 in the first, 8 in the second"):
            evaluate(other, run, episodes=30, out=tmp_path)

    def test_the_train_classes_may_be_scored_as_train_classes(self, noisy: Any, run: Path, tmp_path: Path) -> None:
        assert evaluate(noisy, run, split="train", episodes=30, out=tmp_path)["seen_classes"] == []


@pytest.mark.parametrize(("way", "shot"), [(2, 1), (2, 20), (24, 1), (24, 20)])
def test_from_two_to_24_ways_and_one_to_20_shots(make_store: Make, tmp_path: Path, way: int, shot: int) -> None:
    names = tuple(f"c{n:02d}" for n in range(24))
    store = make_store(tmp_path / "s.zarr", split_classes={"test": names}, videos=22, cube_shape=(16, 1, 1, 1))
    record = evaluate(store, way=way, shot=shot, episodes=20, query_mode="per_class", out=tmp_path, **NEIGHBOR)
    assert (record["way"], record["shot"], record["accuracy"]) == (way, shot, 1)


def test_left_out_videos_are_in_the_record(make_store: Make, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", failed=["mop/003", "nod/000"])
    record = evaluate(store, way=3, episodes=20, out=tmp_path, **NEIGHBOR)
    assert record["coverage"] == {"videos": 30, "failed": 2, "missing": 0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_and_scores_as_a_cpu_does(noisy: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"way": 3, "train_episodes": 32, "batch": 8, "select_on": "none"}
    found = {}
    for device in ("cpu", "cuda"):
        train(noisy, out=tmp_path / device, device=device, **settings)
        found[device] = evaluate_fully(noisy, tmp_path / device, episodes=50, device=device).predictions.logits
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=1e-2, atol=1e-2)
