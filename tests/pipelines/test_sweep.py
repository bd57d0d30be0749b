"""`mastaf sweep`: a search on val that continues where it stopped, and whose best settings can be trained again."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mastaf.cache import console
from mastaf.cache.errors import CacheError
from mastaf.fewshot.cli import cli as fewshot_cli
from mastaf.fewshot.errors import FewShotError
from mastaf.pipelines import sweep as sweep_module
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.search_space import SETTINGS, parse_dimension
from mastaf.pipelines.sweep import sweep

pytestmark = pytest.mark.usefixtures("one_thread")
Mastaf = Callable[..., tuple[int, str, str]]
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 16, "batch": 8, "val_episodes": 20}
WORDS = ("--way", 3, "--train-episodes", 16, "--batch", 8, "--val-episodes", 20)
SPACE: dict[str, str | None] = {"tau": "0.01:1", "bottleneck": "2:8", "global_weight": "0,1", "lr": "0.001:0.1"}


@pytest.fixture
def noisy(make_store: Any, tmp_path: Path) -> Any:
    """A store in which settings matter: the classes overlap."""
    return make_store(tmp_path / "noisy.zarr", separation=0.7, videos=10)


def tried(folder: Path, shot: int = 1) -> list[tuple[dict[str, Any], float]]:
    """Settings and accuracy of each trial, from the runs themselves."""
    found = []
    for run in sorted((folder / f"{shot}shot").iterdir()):
        config = json.loads((run / "config.json").read_text())
        summary = json.loads((run / "summary.json").read_text())
        keywords = {name: config["keywords"][name] for name in ("tau", "bottleneck", "global_weight", "adapter")}
        found.append(({**keywords, "lr": config["lr"]}, summary["val_accuracy"]))
    return found


def test_the_best_on_val_can_be_trained_again_by_its_command(mastaf: Mastaf, noisy: Any, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    arguments = ("--features", noisy.path, *WORDS, "--shot", "1,2", "--trials", 4, "--out", out, "--no-residual")
    status, said, _ = mastaf("sweep", *arguments, "--label-smoothing", 0.1, "--json", tmp_path / "s.json")
    assert status == 0
    best = json.loads((out / "best.json").read_text())
    assert json.loads((tmp_path / "s.json").read_text()) == {**best, "reasons": {}}
    assert best["selected_on"] == "val"
    for shot in ("1", "2"):
        found, trials = best["shots"][shot], tried(out, int(shot))
        assert len(trials) == found["trials"] == 4
        assert found["val_accuracy"] == max(accuracy for _, accuracy in trials)
        assert found["command"] in said
        assert f"{100 * found['val_accuracy']:.1f} ± {100 * found['val_ci95']:.1f}" in said
        program, *words = shlex.split(found["command"])
        assert program == "mastaf-fewshot"
        with pytest.raises(SystemExit) as left:
            console.run(fewshot_cli, words)
        assert not left.value.code
        again, run = out / f"best_{shot}shot", Path(found["run"])
        assert (again / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()
        config = json.loads((run / "config.json").read_text())
        assert (config["shot"], config["label_smoothing"], config["keywords"]["residual"]) == (int(shot), 0.1, False)


def test_values_stay_in_their_ranges_and_differ(noisy: Any, tmp_path: Path) -> None:
    sweep([noisy.path], space=SPACE, trials=6, out=tmp_path / "s", **SMALL)
    trials = [settings for settings, _ in tried(tmp_path / "s")]
    assert all(0.01 <= t["tau"] <= 1 and 0.001 <= t["lr"] <= 0.1 and 2 <= t["bottleneck"] <= 8 for t in trials)
    assert {t["global_weight"] for t in trials} == {0, 1}
    assert {t["adapter"] for t in trials} == {False, True}
    assert len({t["lr"] for t in trials}) == 6


def interrupts(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """`real`, which is interrupted in its call number `at`."""
    left = [at]

    def call(*arguments: Any, **keywords: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    return call


@pytest.mark.parametrize("where", ["train", "tell", "ask"])
def test_a_stopped_sweep_goes_on_as_it_would_have(
    noisy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from optuna import Trial

    settings: dict[str, Any] = {"space": SPACE, "seed": 3, **SMALL}
    # The first ten trials of the search are random; a dozen shows that its memory continues too.
    sweep([noisy.path], trials=12, out=tmp_path / "whole", **settings)
    for at in (2, 11):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            if where == "train":
                patch.setattr("mastaf.fewshot.training.trainer.score_episodes", interrupts(score(), at))
            elif where == "tell":
                patch.setattr(sweep_module.Study, "tell", interrupts(sweep_module.Study.tell, at))
            else:  # between the settings of one trial
                patch.setattr(Trial, "_suggest", interrupts(Trial._suggest, 5 * at))
            sweep([noisy.path], trials=12, out=tmp_path / "cut", **settings)
        with (tmp_path / "cut" / "optuna.log").open("a") as stream:
            stream.write('{"op_code": 5, "wor')  # and a line cut short
        (tmp_path / "cut" / "optuna.log.lock").symlink_to("nobody")
    sweep([noisy.path], trials=12, out=tmp_path / "cut", **settings)
    assert tried(tmp_path / "cut") == tried(tmp_path / "whole")
    one, two = (json.loads((tmp_path / name / "best.json").read_text()) for name in ("whole", "cut"))
    assert one["shots"]["1"]["settings"] == two["shots"]["1"]["settings"]


def score() -> Callable[..., Any]:
    from mastaf.fewshot.training.trainer import score_episodes

    return score_episodes


def test_more_trials_continue_a_finished_sweep(noisy: Any, tmp_path: Path) -> None:
    for trials in (2, 5, 5):
        found = sweep([noisy.path], space=SPACE, trials=trials, out=tmp_path / "parts", **SMALL)
        assert found["shots"]["1"]["trials"] == trials
    sweep([noisy.path], space=SPACE, trials=5, out=tmp_path / "whole", **SMALL)
    assert tried(tmp_path / "parts") == tried(tmp_path / "whole")


def test_several_jobs_train_the_same_as_one(noisy: Any, tmp_path: Path) -> None:
    found = sweep([noisy.path], space=SPACE, trials=3, jobs=2, out=tmp_path / "two", **SMALL)
    assert found["shots"]["1"]["trials"] == 3
    assert found["shots"]["1"]["settings"]["bank"] == "mmap"  # the processes share the store's pages
    # The first trials are random and do not depend on each other.
    sweep([noisy.path], space=SPACE, trials=3, jobs=1, out=tmp_path / "one", **SMALL)
    assert [settings for settings, _ in tried(tmp_path / "two")] == [
        settings for settings, _ in tried(tmp_path / "one")
    ]


def test_backbones_are_compared_on_the_same_val_videos(make_store: Any, tmp_path: Path) -> None:
    good = make_store(tmp_path / "good.zarr", separation=3.0)
    bad = make_store(tmp_path / "bad.zarr", separation=0.0, backbone="r3d", cube_shape=(4, 1, 2, 2))
    found = sweep([bad.path, good.path], space=SPACE, trials=4, out=tmp_path / "s", **SMALL)
    assert found["shots"]["1"]["features"] == str(good.path)
    other = make_store(tmp_path / "other.zarr", failed=["hop/000"])
    with pytest.raises(PipelineError, match="different val videos, so their accuracies cannot be compared"):
        sweep([good.path, other.path], space=SPACE, trials=2, out=tmp_path / "t", **SMALL)


def test_test_classes_are_never_read(make_store: Any, tmp_path: Path) -> None:
    rows = {"train": 48, "val": 24}
    shards = range((rows["train"] + rows["val"]) // 8, 13)
    store = make_store(tmp_path / "s.zarr", shard_rows=8, missing_shards=list(shards))
    assert set(store.states()[:72]) == {1}
    assert set(store.states()[72:]) == {0}
    assert sweep([store.path], space=SPACE, trials=1, out=tmp_path / "s", **SMALL)["shots"]["1"]["trials"] == 1


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls of `train` (from 1) that fail as a loss that is not finite does."""
    wrong, calls, real = list[int](), [0], sweep_module.train

    def train(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] in wrong:
            raise FewShotError("the loss is nan at update 3")
        return real(*arguments, **keywords)

    monkeypatch.setattr(sweep_module, "train", train)
    return wrong


def test_a_failed_trial_is_named_and_the_others_go_on(
    mastaf: Mastaf, noisy: Any, tmp_path: Path, failing: list[int]
) -> None:
    failing += [2]
    arguments = ("--features", noisy.path, *WORDS, "--trials", 3, "--out", tmp_path / "s")
    status, said, _ = mastaf("sweep", *arguments, "--json", tmp_path / "s.json")
    assert status == 1
    assert "trial_0001: the loss is nan at update 3; tau" in said
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["shots"]["1"]["trials"], found["shots"]["1"]["failed"]) == (2, 1)
    assert list(found["reasons"].values()) == ["the loss is nan at update 3"]


def test_if_all_fail_the_sweep_does(mastaf: Mastaf, noisy: Any, tmp_path: Path, failing: list[int]) -> None:
    failing += [1, 2]
    status, _, errors = mastaf("sweep", "--features", noisy.path, *WORDS, "--trials", 2, "--out", tmp_path / "s")
    assert status == 2
    assert "all 2 trials" in errors


def test_another_sweep_is_not_overwritten(toy_store: Any, tmp_path: Path) -> None:
    sweep([toy_store.path], space=SPACE, trials=1, out=tmp_path / "s", **SMALL)
    for change in ({"space": {**SPACE, "tau": "0.01"}}, {"seed": 1}, {"batch": 4}):
        name = {"batch": "settings"}.get(next(iter(change)), next(iter(change)))
        with pytest.raises(PipelineError, match=rf"holds a sweep with other .*{name}.*--out"):
            sweep([toy_store.path], trials=1, out=tmp_path / "s", **{"space": SPACE, **SMALL, **change})


def test_it_cannot_be_made_to_choose_on_test(toy_store: Any, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="episodes of the val classes; leave select_on"):
        sweep([toy_store.path], space=SPACE, out=tmp_path / "s", select_on="test", **SMALL)


def test_where_cubes_stay_is_no_other_sweep(toy_store: Any, tmp_path: Path) -> None:
    sweep([toy_store.path], space=SPACE, trials=1, out=tmp_path / "s", **SMALL)
    found = sweep([toy_store.path], space=SPACE, trials=2, out=tmp_path / "s", bank="mmap", **SMALL)
    assert found["shots"]["1"]["trials"] == 2
    assert "--bank mmap" in found["shots"]["1"]["command"]


def test_without_the_extra_it_is_said(toy_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CacheError, match=r"sweep needs the package optuna.*pip install 'mastaf\[sweep\]'"):
        sweep([toy_store.path], space=SPACE, out=tmp_path / "s", **SMALL)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tau", "1:0.1"), ("--tau (1:0.1)", "LOW:HIGH")),
        (("--lr", "0:1"), ("--lr (0:1)", "above 0")),
        (("--lambda", "-1"), ("--lambda (-1)", "at least 0")),
        (("--bottleneck", "2.5"), ("--bottleneck (2.5)", "whole numbers")),
        (("--lr", "0.1,0.1"), ("names a value twice",)),
        (("--lr", "nan"), ("--lr (nan)",)),
        (("--adapter", "maybe"), ("--adapter",)),
        (("--variant", "neighbor"), ("no trainable parameter",)),
        (("--way", 4), ("3 val classes are fewer than way (4)",)),
        (("--shot", 9), ("shot (9)",)),
        (("--method", "mastav"), ("did you mean mastaf",)),
        (("--step-every", 5), ("step_every",)),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(
    mastaf: Mastaf, toy_store: Any, tmp_path: Path, options: tuple[Any, ...], words: tuple[str, ...]
) -> None:
    status, _, errors = mastaf("sweep", "--features", toy_store.path, *WORDS, "--out", tmp_path / "s", *options)
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert all(word in errors for word in words)
    assert not (tmp_path / "s").exists()


def test_a_store_twice_is_refused(toy_store: Any, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="twice"):
        sweep([toy_store.path, toy_store.path], space=SPACE, out=tmp_path / "s", **SMALL)


def test_the_usual_ranges_can_be_searched() -> None:
    for setting in SETTINGS.values():
        dimension = parse_dimension(setting, setting.usual)
        assert dimension.low < dimension.high
        assert dimension.distribution() is not None
