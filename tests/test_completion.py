"""What a shell completes for the four commands: options, and names of tables, without loading torch."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPTS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "scripts"
]
# Words before, what is typed -> (kind, value) of what is offered.
ASKED: dict[str, dict[tuple[str, str], set[tuple[str, str]]]] = {
    "mastaf-extract": {
        ("", "--backb"): {("plain", "--backbone")},
        ("--backbone", "r3"): {("plain", "r3d"), ("plain", "r3d-tiny")},
        ("--dataset", "ss"): {("plain", "ssv2-cmn"), ("plain", "ssv2-otam")},
        ("--dataset", "my/li"): {("file", "my/li")},
        ("--weights", "ra"): {("plain", "random")},
        ("--time", "m"): {("plain", "mean")},
    },
    "mastaf-cache": {("", "ver"): {("plain", "verify")}, ("info", "cache/h"): {("file", "cache/h")}},
    "mastaf-fewshot": {
        ("train --method", "trx"): {("plain", "trx")},
        ("compare --methods", "trx,otam,ch"): {("plain", "trx,otam,chamferpp")},
        ("train --features", "cache/h"): {("file", "cache/h")},
    },
    "mastaf": {
        ("two-stage --backbone", "viv"): {("plain", "vivit")},
        ("enrol --backbone", "r3d-"): {("plain", "r3d-tiny")},
        ("finetune --recipe", "classify,e"): {("plain", "classify,episodic")},
        ("profile --backbones", "tsn,r3d-"): {("plain", "tsn,r3d-tiny")},
    },
}
PROGRAM = """
import importlib, json, sys
from click.shell_completion import ShellComplete
found = {}
for script, target, before, typed in json.loads(sys.stdin.read()):
    module = importlib.import_module(target.partition(":")[0])
    command = getattr(module, "cli", None) or module.command
    complete = ShellComplete(command, {}, script, "_COMPLETE")
    items = complete.get_completions(before.split(), typed)
    found[f"{script} {before} {typed}"] = [(item.type, item.value) for item in items]
heavy = sorted({"torch", "transformers", "zarr", "h5py", "safetensors"} & set(sys.modules))
print(json.dumps([found, heavy]))
"""


@pytest.fixture(scope="module")
def completed() -> tuple[dict[str, list[list[str]]], list[str]]:
    """All that is asked for, in one process of its own; and which heavy modules it loaded."""
    asked = [(script, SCRIPTS[script], before, typed) for script, table in ASKED.items() for before, typed in table]
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_and_names_are_completed(completed, script):
    for (before, typed), wanted in ASKED[script].items():
        assert {tuple(item) for item in completed[0][f"{script} {before} {typed}"]} == wanted


def test_nothing_heavy_is_loaded(completed):
    assert completed[1] == []


def test_a_shell_is_answered():
    """The protocol, once: what the script asks that `_MASTAF_CACHE_COMPLETE=bash_source mastaf-cache` prints."""
    variables = {"_MASTAF_CACHE_COMPLETE": "bash_complete", "COMP_WORDS": "mastaf-cache conv", "COMP_CWORD": "1"}
    command = [str(Path(sys.executable).with_name("mastaf-cache"))]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,convert\n", "")
