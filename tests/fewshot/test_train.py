"""Training runs: what they learn, what they write, and how they continue."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.fewshot.checkpoint import load_run
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate
from mastaf.fewshot.train import train
from mastaf.fewshot.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Any]
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 96, "batch": 8, "val_episodes": 30, "val_every": 24}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_rate(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "episodes_per_s"} for line in metrics(folder)]


def test_a_run_writes_what_it_did(tmp_path: Path, toy_store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_rng_state()
    summary = train(toy_store, out=tmp_path / "run", **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    assert (summary.trained, summary.episodes, summary.selected_on) == (True, 96, "val")
    assert summary.coverage["train"] == {"videos": 48, "failed": 0, "missing": 0}
    lines = metrics(tmp_path / "run")
    assert [line["episodes"] for line in lines] == [24, 48, 72, 96]
    fields = {"episodes", "loss", "lr", "train_accuracy", "train_ci95", "val_accuracy", "val_ci95", "episodes_per_s"}
    assert set(lines[0]) == fields
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"] == toy_store.spec.recipe
    assert config["store"] == toy_store.digest
    assert config["train_classes"] == ["bow", "clap", "dig", "eat", "fold", "grin"]
    assert config["keywords"]["variant"] == "full"
    assert "cpu, 1 thread" in capsys.readouterr().out


def test_training_learns_to_ignore_what_misleads(tmp_path: Path, make_store: Make) -> None:
    # Frozen cubes whose largest channels say nothing: only the adapter can turn them down.
    store = make_store(tmp_path / "s.zarr", cube_shape=(8, 1, 2, 2), videos=12, separation=3.0)
    real = type(store).mapped
    loud = np.array([12, 12, 1, 1, 1, 1, 1, 1], dtype=np.float16)[:, None, None, None]
    type(store).mapped = lambda self, shard: real(self, shard) * loud
    try:
        settings = {**SMALL, "train_episodes": 1200, "batch": 16, "val_every": 400, "val_episodes": 300, "lr": 0.02}
        train(store, out=tmp_path / "run", method_keywords={"adapter": True}, **settings)
        trained = evaluate(store, tmp_path / "run", episodes=400)["accuracy"]
        plain = evaluate(store, method_keywords={"variant": "neighbor"}, way=3, episodes=400, out=tmp_path)["accuracy"]
    finally:
        type(store).mapped = real
    lines = metrics(tmp_path / "run")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert trained > plain + 0.03


def test_the_best_on_val_is_kept_and_the_last_too(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.2, 0.6, 0.6, 0.4])
    real = Trainer._accuracy

    def scripted(self: Trainer, bank: Any, rows: Any) -> tuple[float, float]:
        return (next(accuracies), 0.1) if bank.split == "val" else real(self, bank, rows)

    monkeypatch.setattr(Trainer, "_accuracy", scripted)
    summary = train(toy_store, out=tmp_path / "run", **SMALL)
    assert (summary.weights_episodes, summary.val_accuracy) == (48, 0.6)
    monkeypatch.undo()
    train(toy_store, out=tmp_path / "short", select_on="none", **{**SMALL, "train_episodes": 48})
    best = load_run(tmp_path / "run", toy_store).method.state_dict()
    of_48 = load_run(tmp_path / "short", toy_store).method.state_dict()
    last = load_run(tmp_path / "run" / "last.safetensors", toy_store).method.state_dict()
    assert all(torch.equal(best[name], of_48[name]) for name in best)
    assert any(not torch.equal(best[name], last[name]) for name in best)


def test_patience_stops_a_run_that_does_not_improve(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_accuracy", lambda self, bank, rows: (0.5, 0.1))
    summary = train(toy_store, out=tmp_path / "run", patience=2, **SMALL)
    assert (summary.episodes, summary.weights_episodes) == (72, 24)


@pytest.mark.parametrize("after", [1, 3, 4, 7, 11])
def test_an_interrupted_run_ends_with_the_same_bits(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    settings = {**SMALL, "method_keywords": {"adapter": True}}
    train(toy_store, out=tmp_path / "whole", **settings)
    real, left = Trainer._update, [after]

    def interrupted(self: Trainer, progress: Any, count: int) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, progress, count)

    # A save after every update: mid-interval states must continue exactly too.
    monkeypatch.setattr("mastaf.fewshot.training.trainer._SAVE_EVERY_S", -1.0 if after % 2 else 60.0)
    monkeypatch.setattr(Trainer, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(toy_store, out=tmp_path / "cut", **settings)
    monkeypatch.undo()
    train(toy_store, out=tmp_path / "cut", **settings)
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert without_rate(tmp_path / "cut") == without_rate(tmp_path / "whole")


def test_a_line_without_its_state_is_written_once(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mastaf.fewshot.training import trainer

    train(toy_store, out=tmp_path / "whole", **SMALL)
    real, left = trainer.save_state, [2]

    def cut(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_state", cut)
        with pytest.raises(KeyboardInterrupt):
            train(toy_store, out=tmp_path / "cut", **SMALL)
    assert len(metrics(tmp_path / "cut")) == 3
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as stream:
        stream.write('{"episodes": 96, "lo')  # and one cut short
    train(toy_store, out=tmp_path / "cut", **SMALL)
    assert without_rate(tmp_path / "cut") == without_rate(tmp_path / "whole")
    assert (tmp_path / "cut" / "last.safetensors").read_bytes() == (
        tmp_path / "whole" / "last.safetensors"
    ).read_bytes()


def test_momentum_and_adam_continue_exactly(tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mastaf.fewshot.methods.base import Defaults
    from mastaf.fewshot.methods.mastaf import MASTAF

    for defaults in (Defaults(momentum=0.9, weight_decay=0.01), Defaults(optimiser="adam", lr=0.001)):
        monkeypatch.setattr(MASTAF, "defaults", defaults)
        whole, cut = tmp_path / f"whole_{defaults.optimiser}", tmp_path / f"cut_{defaults.optimiser}"
        train(toy_store, out=whole, **SMALL)
        real = Trainer._validate

        def stop(self: Trainer, progress: Any, real: Any = real) -> dict[str, Any]:
            if progress.episodes == 72:
                raise KeyboardInterrupt
            return real(self, progress)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_validate", stop)
            with pytest.raises(KeyboardInterrupt):
                train(toy_store, out=cut, **SMALL)
        train(toy_store, out=cut, **SMALL)
        assert (cut / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()


def test_the_same_settings_again_change_nothing(tmp_path: Path, toy_store: Any) -> None:
    first = train(toy_store, out=tmp_path / "run", **SMALL)
    files = {p: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.suffix != ".lock"}
    assert train(toy_store, out=tmp_path / "run", **SMALL) == first
    assert {p: p.read_bytes() for p in files} == files


def test_what_an_interrupted_write_left_is_not_read(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write ends by a rename: a half-written file has a passing name, and goes when the run continues."""
    from mastaf.fewshot.training import trainer

    train(toy_store, out=tmp_path / "whole", **SMALL)
    folder, files = tmp_path / "cut", ("state", "best", "last")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "score_episodes", _raise_at_call(3, trainer.score_episodes))
        train(toy_store, out=folder, **SMALL)
    halves = [folder / f".{name}.safetensors.x{name}.safetensors" for name in files]
    for half in halves:
        half.write_bytes((tmp_path / "whole" / "last.safetensors").read_bytes()[:100])
    train(toy_store, out=folder, **SMALL)
    assert not any(half.exists() for half in halves)
    for name in ("best", "last"):
        file = f"{name}.safetensors"
        assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def _raise_at_call(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    left = [number]

    def call(*arguments: Any, **keywords: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    return call


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_damaged_state_is_named_with_the_remedy(tmp_path: Path, toy_store: Any, part: float) -> None:
    train(toy_store, out=tmp_path / "whole", **SMALL)
    folder = tmp_path / "run"
    train(toy_store, out=folder, **SMALL)
    (folder / "summary.json").unlink()
    data = (folder / "state.safetensors").read_bytes()
    (folder / "state.safetensors").write_bytes(data[: int(part * len(data))])
    with pytest.raises(FewShotError, match=r"state\.safetensors.*damaged.*remove it to train from the start"):
        train(toy_store, out=folder, **SMALL)
    (folder / "state.safetensors").unlink()
    train(toy_store, out=folder, **SMALL)
    assert (folder / "last.safetensors").read_bytes() == (tmp_path / "whole" / "last.safetensors").read_bytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"shot": 2}, {"lr": 0.5}, {"method_keywords": {"global_weight": 1.0}}])
def test_a_run_of_other_settings_is_not_overwritten(tmp_path: Path, toy_store: Any, change: dict[str, Any]) -> None:
    train(toy_store, out=tmp_path / "run", **SMALL)
    name = next(iter(change.get("method_keywords", change)))
    with pytest.raises(FewShotError, match=f"other settings.*{name}: .* here, .* there.*--out"):
        train(toy_store, out=tmp_path / "run", **{**SMALL, **change})


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, toy_store: Any) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FewShotError, match=r"thesis\.txt.*no run"):
        train(toy_store, out=tmp_path, **SMALL)


def test_chunks_of_a_batch_add_up_to_the_batch(tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train(toy_store, out=tmp_path / "whole", select_on="none", **SMALL)
    monkeypatch.setattr("mastaf.fewshot.scoring._CHUNK_EPISODES", 3)
    train(toy_store, out=tmp_path / "chunks", select_on="none", **SMALL)
    whole = load_run(tmp_path / "whole", toy_store).method.state_dict()
    chunks = load_run(tmp_path / "chunks", toy_store).method.state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(chunks[name], tensor, rtol=1e-3, atol=1e-5)


def test_one_update_is_a_step_down_the_mean_loss(tmp_path: Path, toy_store: Any) -> None:
    """Plain SGD by hand, one episode at a time."""
    from mastaf.fewshot.cubes.bank import FeatureBank
    from mastaf.fewshot.episodes.sampler import EpisodeSampler
    from mastaf.fewshot.methods.registry import load_method

    keywords = {"meta_norm": "none", "variant": "cross"}
    settings = {**SMALL, "train_episodes": 5, "batch": 5, "lr": 0.1, "seed": 7, "select_on": "none"}
    train(toy_store, out=tmp_path / "run", method_keywords=keywords, **settings)
    torch.manual_seed(7)
    method = load_method("mastaf").build(cube_shape=toy_store.spec.cube_shape, n_train_classes=6, **keywords)
    bank = FeatureBank(toy_store, "train")
    sampler = EpisodeSampler(keys=bank.keys, classes=bank.classes, split="train", way=3, shot=1, seed=7)
    ids = {name: n for n, name in enumerate(bank.class_names)}
    losses = [method.loss(bank.episode(sampler.rows(i, 1), train_class_ids=ids)) for i in range(5)]
    (sum(losses[1:], losses[0]) / 5).backward()
    expected = {name: p.detach() - 0.1 * p.grad for name, p in method.named_parameters() if p.grad is not None}
    found = load_run(tmp_path / "run", toy_store).method.state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(sum(loss.item() for loss in losses) / 5, rel=1e-4)


@pytest.mark.parametrize("keywords", [{"variant": "neighbor"}, {"variant": "cross", "meta_learner": False}])
def test_a_head_without_anything_to_train_is_written_untrained(
    tmp_path: Path, toy_store: Any, keywords: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train(toy_store, out=tmp_path / "run", method_keywords=keywords, **SMALL)
    assert (summary.trained, summary.episodes, summary.selected_on) == (False, 0, "none")
    assert "no trainable parameter reaches the scores" in capsys.readouterr().out
    assert evaluate(toy_store, tmp_path / "run", episodes=50)["accuracy"] > 0.9


def test_without_enough_val_classes_the_last_weights_are_kept(
    tmp_path: Path, toy_store: Any, make_store: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train(toy_store, out=tmp_path / "a", **{**SMALL, "way": 4})
    assert (summary.selected_on, summary.weights, summary.val_accuracy) == ("none", "last.safetensors", None)
    assert "3 val classes are fewer than way (4): nothing is selected" in capsys.readouterr().out
    store = make_store(tmp_path / "s.zarr", split_classes={"train": "abcd", "test": "efg"})
    assert train(store, out=tmp_path / "b", **SMALL).selected_on == "none"
    assert "there are no val classes" in capsys.readouterr().out
    assert metrics(tmp_path / "b")[0]["val_accuracy"] is None
    with pytest.raises(FewShotError, match="patience needs"):
        train(store, out=tmp_path / "c", patience=2, **SMALL)


def test_a_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mastaf.fewshot.methods.mastaf import MASTAF

    real, calls = MASTAF.loss_maps, [0]

    def blow_up(self: MASTAF, related: Any, *, smoothing: float) -> torch.Tensor:
        calls[0] += 1
        return real(self, related, smoothing=smoothing) * (float("nan") if calls[0] == 5 else 1.0)

    monkeypatch.setattr(MASTAF, "loss_maps", blow_up)
    with pytest.raises(FewShotError, match=r"loss is nan at update 5 \(episodes 33 to 40\).*best\.safetensors.*--lr"):
        train(toy_store, out=tmp_path / "run", **SMALL)
    assert load_run(tmp_path / "run" / "best.safetensors", toy_store).selected_on == "val"


def test_what_cannot_be_trained_is_refused(tmp_path: Path, toy_store: Any, make_store: Make) -> None:
    with pytest.raises(FewShotError, match=r"way \(7\).*6 classes.*lower --way"):
        train(toy_store, out=tmp_path / "r", way=7)
    with pytest.raises(FewShotError, match=r"shot \(8\) \+ queries \(1\) need 9 videos a class, but 'bow' .* has 8"):
        train(toy_store, out=tmp_path / "r", way=3, shot=8)
    with pytest.raises(FewShotError, match="did you mean mastaf"):
        train(toy_store, out=tmp_path / "r", method="mastav")
    with pytest.raises(FewShotError, match="device"):
        train(toy_store, out=tmp_path / "r", device="toaster")
    with pytest.raises(FewShotError, match=r"val_episodes \(1\) must be at least 2"):
        train(toy_store, out=tmp_path / "r", way=3, val_episodes=1)
    with pytest.raises(FewShotError, match=r"lr \(-1\) must be a number above 0"):
        train(toy_store, out=tmp_path / "r", way=3, lr=-1)
    store = make_store(tmp_path / "s.zarr", split_classes={"test": "abc"})
    with pytest.raises(FewShotError, match="no train videos"):
        train(store, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_published_schedules_are_the_defaults() -> None:
    from mastaf.fewshot.methods.base import Defaults
    from mastaf.fewshot.training.defaults import resolve_schedule

    def of(dataset: str, **given: Any) -> tuple[int, int]:
        schedule = resolve_schedule(dataset, Defaults(), **given)
        return schedule.batch, schedule.train_episodes

    assert of("ucf101") == (128, 128_000)
    assert of("hmdb51") == (64, 128_000)
    assert of("ssv2-cmn") == (32, 128_000)
    assert of("ssv2-otam") == (32, 256_000)
    assert of("motion") == (32, 4_000)
    assert of("ucf101", batch=4, episodes=8) == (4, 8)
    own = Defaults(batch=16, episodes=100)
    schedule = resolve_schedule("ucf101", own)
    assert (schedule.batch, schedule.train_episodes) == (16, 100)


def test_a_validation_costs_no_more_than_the_training_that_it_judges() -> None:
    from mastaf.fewshot.methods.base import Defaults
    from mastaf.fewshot.training.defaults import VAL_EPISODES, resolve_schedule

    for dataset, most in (("ucf101", 20), ("motion", 4)):
        schedule = resolve_schedule(dataset, Defaults())
        assert schedule.val_every >= VAL_EPISODES
        assert schedule.val_every % schedule.batch == 0
        assert schedule.train_episodes // schedule.val_every <= most
    assert resolve_schedule("motion", Defaults(), val_every=40).val_every == 64


def test_views_are_drawn_in_training_alone(tmp_path: Path, make_store: Make) -> None:
    both = make_store(tmp_path / "a.zarr", views=("plain", "flip"))
    plain = make_store(tmp_path / "b.zarr", views=("plain", "flip"), flip_keeps_class=False)
    train(both, out=tmp_path / "a", **SMALL)
    train(plain, out=tmp_path / "b", **SMALL)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["views"] == [0, 1]
    assert json.loads((tmp_path / "b" / "config.json").read_text())["views"] == [0]
    first, second = (load_run(tmp_path / name, both).method.state_dict() for name in "ab")
    assert any(not torch.equal(first[name], second[name]) for name in first)


VIEWS = ("plain", "t1", "left+flip", "topleft+t2")


def test_views_that_may_not_be_drawn_change_nothing(tmp_path: Path, make_store: Make) -> None:
    """With a flip that changes classes, training is that on a store without the flipped view."""
    store = make_store(tmp_path / "a.zarr", views=VIEWS, flip_keeps_class=False)
    train(store, out=tmp_path / "run", **SMALL)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["views"] == [0, 1, 3]
    drawn = set()
    real = FeatureBank.gather

    def watched(self: FeatureBank, positions: np.ndarray, views: np.ndarray, out: torch.Tensor) -> torch.Tensor:
        drawn.update(views.tolist())
        return real(self, positions, views, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureBank, "gather", watched)
        train(store, out=tmp_path / "again", **SMALL)
        assert drawn == {0, 1, 3}
        drawn.clear()
        evaluate(store, tmp_path / "run", way=3, episodes=50, out=tmp_path)
        assert drawn <= {0}


def test_evaluation_reads_the_plain_view_alone(tmp_path: Path, make_store: Make) -> None:
    alone = make_store(tmp_path / "a.zarr", views=("plain",))
    many = make_store(tmp_path / "b.zarr", views=VIEWS)
    scores = [
        evaluate(store, method_keywords={"variant": "neighbor"}, way=3, episodes=200, out=tmp_path / name)["accuracy"]
        for name, store in (("a", alone), ("b", many))
    ]
    assert scores[0] == scores[1]


def test_a_run_that_draws_views_continues_to_the_same_bits(
    tmp_path: Path, make_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "s.zarr", views=VIEWS)
    train(store, out=tmp_path / "whole", **SMALL)
    real = Trainer._validate

    def stop(self: Trainer, progress: Any) -> dict[str, Any]:
        if progress.episodes == 72:
            raise KeyboardInterrupt
        return real(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(store, out=tmp_path / "cut", **SMALL)
    train(store, out=tmp_path / "cut", **SMALL)
    for name in ("last", "best"):
        files = [(tmp_path / run / f"{name}.safetensors").read_bytes() for run in ("whole", "cut")]
        assert files[0] == files[1]
