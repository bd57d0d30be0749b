"""What the tests of stage two share: the slow formulas and random episodes."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mastaf.cache.console import run as run_command
from mastaf.fewshot.cli import cli
from mastaf.fewshot.episodes.episode import Episode


def load_reference(name: str) -> ModuleType:
    """Import tests/fewshot/reference/NAME.py (test modules cannot import each other in importlib mode)."""
    path = Path(__file__).parent / "reference" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"mastaf_reference_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def mastaf_loops() -> ModuleType:
    return load_reference("mastaf_loops")


@pytest.fixture(scope="session")
def random_episode() -> Callable[..., Episode]:
    """A function that draws an episode; cubes are post-ReLU like unless `signed`."""

    def draw(
        *,
        b: int = 2,
        way: int = 3,
        shot: int = 2,
        q: int = 2,
        cube: tuple[int, int, int, int] = (8, 2, 3, 1),
        n_train_classes: int = 7,
        seed: int = 0,
        signed: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> Episode:
        rng = torch.Generator().manual_seed(seed)
        sample = torch.randn if signed else torch.rand
        support = sample(b, way, shot, *cube, generator=rng, dtype=torch.float64).to(dtype)
        query = sample(b, q, *cube, generator=rng, dtype=torch.float64).to(dtype)
        labels = torch.randint(0, way, (b, q), generator=rng)
        ids = torch.stack([torch.randperm(max(n_train_classes, way), generator=rng)[:way] for _ in range(b)])
        return Episode(support, query, labels, ids)

    return draw


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in an empty folder; gives exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            run_command(cli, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(leaving.value.code or 0), captured.out, captured.err

    return run
