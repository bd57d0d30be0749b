"""Fixtures for the pipelines: a small rendering of the embedded data set, and the commands run in this process."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def small_motion(tmp_path_factory) -> Path:
    """The embedded data set with few clips of each class, rendered once for all processes of a run: the first one there
    renders, the others wait. Never change it."""
    from mastaf.extract.datasets.motion import render_motion

    base = tmp_path_factory.getbasetemp()  # of this process; those of one run lie side by side
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small motion" / "motion"
    render_motion(root, clips_per_class={"train": 4, "val": 4, "test": 8})
    return root


@pytest.fixture
def videos(small_motion, tmp_path) -> Callable[..., Path]:
    """videos(split=(class, ...), ...): a folder of one's own, copied from the rendering; `flat` has no split level."""

    def copy(flat: tuple[str, ...] = (), **splits: tuple[str, ...]) -> Path:
        root = tmp_path / "my videos"
        for name in flat:
            shutil.copytree(small_motion / "test" / name, root / name)
        for split, names in splits.items():
            for name in names:
                shutil.copytree(small_motion / split / name, root / split / name)
        return root

    return copy


@pytest.fixture
def mastaf(capsys) -> Callable[..., tuple[int, str, str]]:
    """mastaf(*arguments) -> (exit status, stdout, stderr) of the command `mastaf`."""

    def command(*arguments: Any) -> tuple[int, str, str]:
        from mastaf.cache import console
        from mastaf.pipelines.cli import cli

        with pytest.raises(SystemExit) as left:
            console.run(cli, [str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return command
