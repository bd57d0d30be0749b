"""Plug-ins: methods that other distributions bring through the entry-point group `mastaf.methods`."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mastaf.fewshot.compare import compare
from mastaf.fewshot.errors import FewShotError, OtherRunError
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.registry import load_method, method_names
from mastaf.fewshot.train import train

EXAMPLE = Path(__file__).parents[2] / "examples" / "method_plugin"
BIN = Path(sys.executable).parent
SMALL = ["--way", "3", "--train-episodes", "16", "--val-episodes", "10"]
Install = Callable[..., None]
Call = Callable[..., tuple[int, str, str]]

# A method and what may be wrong with it: `{body}` are lines of the class.
SOURCE = """
from mastaf.fewshot.methods.protonet import ProtoNet
class Odd(ProtoNet):
    {body}
"""


FAILED = "'odd' of distribution dist-x 1.5 failed while {} (ZeroDivisionError: division by zero, line 4 of "


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(distribution, {name: target}, module=..., source=...)`: a distribution that importlib.metadata finds."""

    made: set[str] = set()

    def make(distribution: str, points: dict[str, str], *, module: str = "", source: str = "") -> None:
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        lines = [f"{name} = {target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[mastaf.methods]", *lines]) + "\n")
        if module:
            made.add(module)
            (site / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(site)

    yield make
    for name in made & set(sys.modules):
        del sys.modules[name]


def refusal(name: str) -> str:
    with pytest.raises(FewShotError) as caught:
        load_method(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_example_package_is_installed_trained_and_scored(tmp_path: Path, toy_store: Any) -> None:
    """As a user does it: pip, then the command lines. Nothing is downloaded."""
    site = tmp_path / "site"
    source = shutil.copytree(EXAMPLE, tmp_path / "source")  # a build leaves files behind
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", site, source], check=True)
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*arguments: object) -> str:
        line = [BIN / "mastaf-fewshot", *map(str, arguments)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    line = ["--methods", "mastaf,diagonal", *SMALL, "--episodes", "20"]
    out = run("compare", "--features", toy_store.path, *line)
    assert "| diagonal " in out
    assert "| 6 " in out, "one weight a channel"
    run_folder = next(tmp_path.glob("runs/compare_toy/toy/diagonal_*"))
    scored = run("evaluate", "--features", toy_store.path, "--checkpoint", run_folder, "--episodes", "20", "--way", "3")
    assert "diagonal, 3-way 1-shot on test" in scored


def test_names_are_listed_and_suggested_without_importing(install: Install, call: Call, toy_store: Any) -> None:
    install("dist-far", {"farhead": "far_module:Far"}, module="far_module", source="raise SystemExit('imported')")
    assert method_names() == (*METHODS, "farhead")
    for command in ("train", "compare"):
        status, out, _ = call(command, "--help")
        assert status == 0
        assert "farhead" in " ".join(out.split())
    status, _, err = call("train", "--features", toy_store.path, "--method", "farhed")
    assert status == 2
    assert "unknown method 'farhed'; did you mean farhead?" in err
    assert "far_module" not in sys.modules


def test_a_built_in_name_cannot_be_taken_over(install: Install) -> None:
    install("dist-bad", {"trx": "nowhere:TRX"})
    assert refusal("trx").startswith("method 'trx' is built in, and distribution dist-bad 1.5 brings a plug-in of the")
    assert method_names() == tuple(METHODS)
    assert load_method("otam").__name__ == "OTAM", "other names are not touched"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("class Odd(:", "SyntaxError: "),
        ("Odd = 3", "it must be a subclass of mastaf.fewshot.methods.base.Method"),
        (SOURCE.replace("{body}", "readout = 'all'"), "its readout ('all') must be one of vec, seq, cube"),
        (SOURCE.replace("{body}", "needs = None"), "its needs and defaults must be Needs(...) and Defaults(...)"),
    ],
)
def test_a_class_that_is_no_method_is_one_line_when_asked_for(install: Install, source: str, reason: str) -> None:
    install("dist-x", {"odd": "odd_module:Odd"}, module="odd_module", source=source)
    assert "odd" in method_names()
    assert load_method("protonet").__name__ == "ProtoNet"
    line = refusal("odd")
    assert line.startswith("method 'odd' of distribution dist-x 1.5 cannot be imported from odd_module:Odd (")
    assert reason in line
    assert line.endswith("mend or uninstall that distribution")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def __init__(self, **keywords): raise RuntimeError('no\\nluck')", "cannot be built (RuntimeError: no luck)"),
        ("def forward(self, episode): return 1 / 0", FAILED.format("scoring")),
        ("fits = True; fit = lambda self, bank, rng: 1 / 0", FAILED.format("training")),
        ("from mastaf.fewshot.methods.base import Needs; needs = Needs(t=2)", "have t = 1, but Odd needs t >= 2"),
    ],
)
def test_a_plugin_that_cannot_be_had_costs_a_comparison_of_all_its_own_row_alone(
    install: Install, toy_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    source = SOURCE.replace("{body}", body)
    install("dist-x", {"odd": "odd_module:Odd"}, module="odd_module", source=source)
    monkeypatch.setattr("mastaf.fewshot.compare.method_names", lambda: ("mastaf", "protonet", "odd"))
    small: dict[str, Any] = {"way": 3, "train_episodes": 8, "val_episodes": 10, "episodes": 20, "progress": False}
    (block,) = compare([toy_store], out=tmp_path / "out", **small)
    assert [row.name for row in block.compared.rows] == ["mastaf", "mastaf:neighbor", "protonet"]
    (absent,) = block.compared.not_run
    assert absent.name == "odd"
    assert reason in absent.reason
    assert absent.failed == ("t >= 2" not in reason), "not something that this store alone cannot have"
    with pytest.raises(FewShotError, match=re.escape(reason)):
        compare([toy_store], methods=("mastaf", "odd"), out=tmp_path / "out", **small)
    if "build" in reason:
        with pytest.raises(FewShotError, match=r"of distribution dist-x 1\.5 cannot be built"):
            train(toy_store, method="odd", out=tmp_path / "alone", way=3)


@pytest.mark.usefixtures("one_thread")
def test_what_other_code_of_a_plugin_made_is_not_used_again(install: Install, toy_store: Any, tmp_path: Path) -> None:
    install("dist-x", {"odd": "odd_module:Odd"}, module="odd_module", source=SOURCE.replace("{body}", "pass"))
    asked: dict[str, Any] = {"way": 3, "episodes": 20, "progress": False, "out": tmp_path / "out", "methods": ("odd",)}
    (row,) = compare([toy_store], **asked)[0].compared.rows
    written = row.paths[0].stat().st_mtime_ns
    assert row.record["versions"]["plug-in distribution"] == "dist-x 1.5"
    compare([toy_store], **asked)
    assert row.paths[0].stat().st_mtime_ns == written
    run = row.paths[0].parent.parent
    body = "def forward(self, episode): return -super().forward(episode)"
    (tmp_path / "dist-x" / "odd_module.py").write_text(SOURCE.replace("{body}", body))
    del sys.modules["odd_module"]  # as in a new process
    words = rf"{run} holds a run of other settings \(code of the plug-in: dist-x 1\.5 .* or remove it"
    with pytest.raises(OtherRunError, match=words):
        compare([toy_store], **asked)
    shutil.rmtree(run)
    (again,) = compare([toy_store], **asked)[0].compared.rows
    assert again.accuracy < row.accuracy
