"""Runs and heads side by side against each alone: sharing must change nothing, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.fewshot.checkpoint import load_run
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.cubes.banks import Banks
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.evaluate import evaluate_fully, evaluate_together
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.scoring import KeptMaps, score_episodes, score_heads
from mastaf.fewshot.train import Order, train, train_together
from mastaf.fewshot.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS: dict[str, Any] = {"way": 3, "train_episodes": 48, "batch": 8, "val_episodes": 30, "val_every": 16}
# name -> settings; two seeds, two shots, four variants and an adapter: some share a stream, some do not.
RUNS: dict[str, dict[str, Any]] = {
    "full": {},
    "cross": {"method_keywords": {"variant": "cross"}},
    "self": {"method_keywords": {"variant": "self"}},
    "neighbor": {"method_keywords": {"variant": "neighbor"}},
    "adapter": {"method_keywords": {"adapter": True}},
    "shots": {"shot": 2},
    "seed": {"seed": 1},
    "patient": {"patience": 1},
}


def orders(folder: Path) -> list[Order]:
    return [Order({**SETTINGS, **given}, folder / name) for name, given in RUNS.items()]


def weights(folder: Path) -> dict[str, bytes]:
    found = sorted(folder.glob("*/*.safetensors"))
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in found if p.stem in ("best", "last")}


@pytest.mark.parametrize("kind", ["ram", "stream"])
def test_a_run_beside_others_has_the_bits_of_one_alone(tmp_path: Path, toy_store: Any, kind: str) -> None:
    for order in orders(tmp_path / "alone"):
        train(toy_store, out=order.out, bank=kind, progress=False, **order.settings)
    summaries = train_together(Banks(toy_store, bank=kind), orders(tmp_path / "together"), progress=False)
    assert [summary.out.name for summary in summaries] == list(RUNS)
    assert [summary.trained for summary in summaries] == [name != "neighbor" for name in RUNS]
    assert weights(tmp_path / "alone") == weights(tmp_path / "together")


def test_runs_that_were_cut_meet_again(tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train_together(Banks(toy_store), orders(tmp_path / "whole"), progress=False)
    real, left = Trainer._save, [9]

    def cut(self: Trainer, progress: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(self, progress)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_save", cut)
        train_together(Banks(toy_store), orders(tmp_path / "cut"), progress=False)
    train_together(Banks(toy_store), orders(tmp_path / "cut"), progress=False)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_heads_on_one_stream_read_each_cube_once(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for number in (1, 3):
        seen = [0]
        real = FeatureBank.gather

        def counted(self: FeatureBank, *arguments: Any, real: Any = real, seen: list[int] = seen) -> Any:
            seen[0] += 1
            return real(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(FeatureBank, "gather", counted)
            train_together(Banks(toy_store), orders(tmp_path / str(number))[:number], progress=False)
        counts.append(seen[0])
    # Each run shows a few cubes to its method once, before training; the rest is the same.
    assert counts[1] - counts[0] == 2


@pytest.mark.parametrize("shot", [1, 3])
def test_kept_maps_and_shared_chunks_give_the_same_scores(
    toy_store: Any, monkeypatch: pytest.MonkeyPatch, shot: int
) -> None:
    monkeypatch.setattr("mastaf.fewshot.scoring._CHUNK_EPISODES", 4)
    monkeypatch.setattr("mastaf.fewshot.scoring._KEPT_BYTES", 3_000)  # some chunks, not all
    bank = FeatureBank(toy_store, "test")
    sampler = EpisodeSampler(
        keys=bank.keys, classes=bank.classes, split="test", seed=0, way=3, shot=shot, query_mode="per_class", queries=2
    )
    rows, heads = sampler.rows(0, 30), []
    for variant in ("full", "self", "cross", "neighbor"):
        torch.manual_seed(3)
        heads.append(load_method("mastaf").build(cube_shape=(6, 1, 2, 2), n_train_classes=6, variant=variant))
    torch.manual_seed(3)
    heads.append(load_method("mastaf").build(cube_shape=(6, 1, 2, 2), n_train_classes=6, adapter=True))
    alone = [score_episodes(head, bank, rows, kept=KeptMaps()) for head in heads]
    kept = KeptMaps()
    for _ in range(3):
        for found, expected in zip(score_heads(heads, bank, rows, kept=kept), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["mmap", "stream"])
def test_other_banks_train_as_memory_does(tmp_path: Path, toy_store: Any, kind: str) -> None:
    for name in ("ram", kind):
        train(toy_store, out=tmp_path / name, bank=name, progress=False, **SETTINGS)
    here, there = (load_run(tmp_path / name, toy_store).method.state_dict() for name in ("ram", kind))
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_runs_scored_together_get_the_records_they_get_alone(tmp_path: Path, toy_store: Any, precision: str) -> None:
    names = ("full", "neighbor", "adapter", "seed")
    wanted = [order for order in orders(tmp_path) if order.out is not None and order.out.name in names]
    banks = Banks(toy_store)
    runs = [summary.out for summary in train_together(banks, wanted, progress=False)]
    asked: dict[str, Any] = {"episodes": 40, "precision": precision, "progress": False}
    together = evaluate_together(banks, runs, **asked)
    for run, found in zip(runs, together, strict=True):
        alone = evaluate_fully(toy_store, run, out=tmp_path / "alone" / run.name, **asked)
        assert found.path.parent.parent == run
        assert found.record["precision"] == precision
        varying = ("seconds", "predictions")
        assert {k: v for k, v in found.record.items() if k not in varying} == {
            k: v for k, v in alone.record.items() if k not in varying
        }
        np.testing.assert_array_equal(found.predictions.logits, alone.predictions.logits)
