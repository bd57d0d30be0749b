"""Optimisers, learning rates, clipping, smoothing, mixed precision: what they do, and that runs continue with them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mastaf.fewshot.ablate import ablate
from mastaf.fewshot.checkpoint import load_run
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods.global_classifier import cross_entropy
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.train import train
from mastaf.fewshot.training.run_config import read_config
from mastaf.fewshot.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 96, "batch": 8, "val_episodes": 20, "val_every": 24}
OPTIONS: dict[str, dict[str, Any]] = {
    "cosine": {"schedule": "cosine"},
    "step": {"schedule": "step", "step_every": 20, "step_factor": 0.5},
    "adamw": {"optimiser": "adamw", "lr": 0.002},
    "weight-decay": {"weight_decay": 0.1},
    "clip": {"clip_norm": 0.01},
    "smoothing": {"label_smoothing": 0.2},
    "bf16": {"train_precision": "bf16"},
    "all": {
        "optimiser": "adamw",
        "weight_decay": 0.05,
        "schedule": "cosine",
        "clip_norm": 0.5,
        "label_smoothing": 0.1,
        "train_precision": "bf16",
        "method_keywords": {"adapter": True},
    },
}


def weights(run: Path, store: Any) -> dict[str, torch.Tensor]:
    return load_run(run / "last.safetensors", store).method.state_dict()


def rates(run: Path) -> list[float]:
    return [json.loads(line)["lr"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_interrupted_run_ends_with_the_same_bits(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = {**SMALL, **OPTIONS[name]}
    train(toy_store, out=tmp_path / "whole", **settings)
    real, left = Trainer._update, [5]

    def interrupted(self: Trainer, progress: Any, count: int) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, progress, count)

    # A save after every update: the state is cut in the middle of a stage and of an interval.
    monkeypatch.setattr("mastaf.fewshot.training.trainer._SAVE_EVERY_S", -1.0)
    for updates in (5, 1):
        left[0] = updates
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "_update", interrupted)
            train(toy_store, out=tmp_path / "cut", **settings)
    train(toy_store, out=tmp_path / "cut", **settings)
    for file in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert rates(tmp_path / "cut") == rates(tmp_path / "whole")


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_changes_the_weights_and_tells_runs_apart(tmp_path: Path, toy_store: Any, name: str) -> None:
    train(toy_store, out=tmp_path / "plain", **SMALL)
    given = {k: v for k, v in OPTIONS[name].items() if k != "method_keywords"}
    train(toy_store, out=tmp_path / "other", **SMALL, **given)
    assert (tmp_path / "plain" / "last.safetensors").read_bytes() != (tmp_path / "other/last.safetensors").read_bytes()
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert {option: config[option] for option in given} == given
    with pytest.raises(FewShotError, match="other settings") as caught:
        train(toy_store, out=tmp_path / "plain", **SMALL, **given)
    for option in given:
        assert f"{option}: " in str(caught.value)


def test_updates_are_those_of_adamw_by_hand(tmp_path: Path, toy_store: Any) -> None:
    """Loshchilov and Hutter's AdamW, cosine rates, gradients shortened together: three updates of one episode."""
    keywords = {"meta_norm": "none", "variant": "cross"}
    lr, decay, clip, smoothing = 0.01, 0.1, 0.05, 0.3
    optimisation: dict[str, Any] = {
        "optimiser": "adamw",
        "lr": lr,
        "weight_decay": decay,
        "clip_norm": clip,
        "label_smoothing": smoothing,
        "schedule": "cosine",
    }
    settings = {**SMALL, "train_episodes": 3, "batch": 1, "seed": 7, "select_on": "none"}
    train(toy_store, out=tmp_path / "run", method_keywords=keywords, **settings, **optimisation)
    torch.manual_seed(7)
    method = load_method("mastaf").build(cube_shape=toy_store.spec.cube_shape, n_train_classes=6, **keywords)
    bank = FeatureBank(toy_store, "train")
    sampler = EpisodeSampler(keys=bank.keys, classes=bank.classes, split="train", way=3, shot=1, seed=7)
    ids = {name: n for n, name in enumerate(bank.class_names)}
    values = dict(method.named_parameters())
    first = {name: torch.zeros_like(p) for name, p in values.items()}
    second = {name: torch.zeros_like(p) for name, p in values.items()}
    for step in range(1, 4):
        method.zero_grad()
        method.loss(bank.episode(sampler.rows(step - 1, 1), train_class_ids=ids), smoothing=smoothing).backward()
        gradients = {name: p.grad for name, p in values.items() if p.grad is not None}
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        rate = lr * 0.5 * (1 + math.cos(math.pi * (step - 1) / 3))
        assert norm > clip
        with torch.no_grad():
            for name, gradient in gradients.items():
                g = gradient * clip / norm
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                towards = (first[name] / (1 - 0.9**step)) / ((second[name] / (1 - 0.999**step)).sqrt() + 1e-8)
                values[name].mul_(1 - rate * decay).sub_(rate * towards)
    found = weights(tmp_path / "run", toy_store)
    for name, value in values.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-3, atol=1e-5)


def test_rates_follow_their_schedule(tmp_path: Path, toy_store: Any) -> None:
    train(toy_store, out=tmp_path / "cosine", lr=0.2, schedule="cosine", **SMALL)
    # The rate of the update before each validation, which began 8 episodes earlier.
    expected = [0.1 * (1 + math.cos(math.pi * (seen - 8) / 96)) for seen in (24, 48, 72, 96)]
    assert rates(tmp_path / "cosine") == pytest.approx(expected)
    train(toy_store, out=tmp_path / "step", lr=0.2, schedule="step", **SMALL)
    assert rates(tmp_path / "step") == pytest.approx([0.2, 0.02, 0.002, 0.002])  # stages of 32 episodes
    assert read_config(tmp_path / "step").step_every == 32


@pytest.mark.parametrize("positions", [None, 3])
def test_smoothing_spreads_the_target_evenly(positions: int | None) -> None:
    """sum over classes of -target * log p, with the target written out; a class id of -1 has none."""
    rng = torch.Generator().manual_seed(0)
    shape = (2, 4, 5) if positions is None else (2, 4, 5, positions)
    logits = torch.randn(shape, generator=rng, dtype=torch.float64)
    target = torch.tensor([[0, 4, -1, 2], [1, 1, 3, -1]])
    terms = []
    for i, row in enumerate(target.tolist()):
        for j, wanted in enumerate(row):
            if wanted < 0:
                continue
            columns = [logits[i, j]] if positions is None else [logits[i, j, :, p] for p in range(positions)]
            for column in columns:
                chances = column.exp() / column.exp().sum()
                spread = [0.9 * (k == wanted) + 0.1 / 5 for k in range(5)]
                terms.append(-sum(s * math.log(c) for s, c in zip(spread, chances.tolist(), strict=True)))
    assert cross_entropy(logits, target, smoothing=0.1).item() == pytest.approx(sum(terms) / len(terms))


def test_mixed_precision_is_near_and_is_not_float32(tmp_path: Path, toy_store: Any) -> None:
    for precision in ("fp32", "bf16"):
        train(toy_store, out=tmp_path / precision, train_precision=precision, select_on="none", **SMALL)
    one, two = (weights(tmp_path / precision, toy_store) for precision in ("fp32", "bf16"))
    assert all(tensor.dtype == torch.float32 for tensor in two.values())
    distance = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert 0 < distance < 0.05


def test_another_optimiser_has_its_usual_settings(tmp_path: Path, toy_store: Any) -> None:
    settings = {**SMALL, "train_episodes": 8}
    for optimiser, usual in (("sgd", (0.01, 0.0)), ("adam", (0.001, 0.0)), ("adamw", (0.001, 0.01))):
        train(toy_store, out=tmp_path / optimiser, optimiser=optimiser, **settings)
        config = read_config(tmp_path / optimiser)
        assert (config.lr, config.weight_decay) == usual


def test_rows_of_an_ablation_are_trained_with_them(tmp_path: Path, toy_store: Any) -> None:
    given = {k: v for k, v in OPTIONS["all"].items() if k != "method_keywords"}
    settings = {**SMALL, "val_episodes": 20, "train_episodes": 48}
    ablate(toy_store, out=tmp_path / "ablation", episodes=20, **settings, **given)
    runs = [folder for folder in (tmp_path / "ablation").iterdir() if (folder / "metrics.jsonl").is_file()]
    assert len(runs) == 3  # Neighbor has nothing to train
    for run in runs:
        config = read_config(run)
        assert {name: getattr(config, name) for name in given} == given
        alone = tmp_path / run.name
        train(toy_store, out=alone, method_keywords={"variant": config.keywords["variant"]}, **settings, **given)
        for name, value in weights(alone, toy_store).items():
            assert torch.equal(weights(run, toy_store)[name], value)


def test_a_run_of_before_these_settings_is_read_and_continued(tmp_path: Path, toy_store: Any) -> None:
    train(toy_store, out=tmp_path / "run", **SMALL)
    path = tmp_path / "run" / "config.json"
    value = json.loads(path.read_text())
    for name in ("schedule", "step_every", "step_factor", "clip_norm", "label_smoothing", "train_precision"):
        del value[name]
    path.write_text(json.dumps(value))
    assert load_run(tmp_path / "run", toy_store).config.schedule == "constant"
    assert train(toy_store, out=tmp_path / "run", **SMALL).episodes == 96
    with pytest.raises(FewShotError, match="schedule: cosine here, constant there"):
        train(toy_store, out=tmp_path / "run", schedule="cosine", **SMALL)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"optimiser": "lion"}, r"optimiser \(lion\) must be one of sgd, adam, adamw"),
        ({"schedule": "linear"}, r"schedule \(linear\) must be one of constant, cosine, step"),
        ({"train_precision": "fp16"}, r"train_precision \(fp16\) must be one of fp32, bf16"),
        ({"weight_decay": -0.1}, r"weight_decay \(-0.1\) must be a number of at least 0"),
        ({"weight_decay": math.nan}, r"weight_decay \(nan\)"),
        ({"clip_norm": 0}, r"clip_norm \(0\) must be a number above 0"),
        ({"clip_norm": math.inf}, r"clip_norm \(inf\)"),
        ({"label_smoothing": 1.0}, r"label_smoothing \(1.0\) must be at least 0 and below 1"),
        ({"step_every": 10}, "step_every and step_factor belong to schedule 'step', not 'constant'"),
        ({"schedule": "cosine", "step_factor": 0.5}, "belong to schedule 'step', not 'cosine'"),
        ({"schedule": "step", "step_factor": -1}, r"step_factor \(-1\)"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, toy_store: Any, given: dict[str, Any], says: str) -> None:
    with pytest.raises(FewShotError, match=says):
        train(toy_store, out=tmp_path / "r", way=3, **given)
    assert not (tmp_path / "r").exists()
