"""A run of the hub on this machine: its files fetched once, into the cache of the hub's own client."""

import re
from pathlib import Path

from ...cache.hub import fetch_snapshot
from ..checkpoint import BEST_FILE, LAST_FILE, SUMMARY_FILE
from ..errors import FewShotError
from ..methods.registry import method_names
from ..training.run_config import CONFIG_FILE, RunConfig, read_config
from .names import SCHEME, HubName, parse_name

# Nothing else is fetched, so no pickle of a stranger ever comes here.
RUN_FILES = (CONFIG_FILE, SUMMARY_FILE, BEST_FILE, LAST_FILE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def run_path(given: str | Path) -> Path:
    """The folder of a run: a path as it is, or that of `hf:USER/REPO[@REVISION]`, fetched. Raises FewShotError."""
    text = str(given)
    return fetch_run(parse_name(text)) if text.startswith(SCHEME) else Path(given)


def fetch_run(name: HubName) -> Path:
    """The folder of a run of the hub, its settings checked. Raises FewShotError in one line."""
    without = f"on a machine with a network run `hf download {name.repo} --local-dir DIR`, and give DIR"
    mend = f"what stands after @ in {name}"
    path = fetch_snapshot(name.repo, name.revision, RUN_FILES, raising=FewShotError, mend=mend, without=without)
    lacking = [file for file in (CONFIG_FILE, SUMMARY_FILE) if not (path / file).is_file()]
    if lacking or not any((path / file).is_file() for file in (BEST_FILE, LAST_FILE)):
        what = lacking[0] if lacking else "weights as safetensors"
        raise FewShotError(
            f"{name} holds no run of mastaf (it has no {what}); give a repository that `mastaf-fewshot push` made"
        )
    _require_method(name, read_config(path))
    return path


def _require_method(name: HubName, config: RunConfig) -> None:
    if config.method in method_names():
        return
    plugin = config.plugin.get("distribution")
    if plugin:
        raise FewShotError(
            f"{name} is a run of method '{config.method}' of the plug-in {plugin}, which is not installed; install it "
            "if you trust its code"
        )
    raise FewShotError(f"{name} is a run of method '{config.method}', which this version of mastaf has not; update it")


def results_folder(run: Path) -> Path:
    """Where the results of a run go: its own folder, or for one in the hub's cache `runs/USER_REPO_COMMIT`."""
    repo = run.parent.parent.name
    if run.parent.name == "snapshots" and repo.startswith("models--") and _COMMIT.fullmatch(run.name):
        return Path("runs") / f"{repo.removeprefix('models--').replace('--', '_')}_{run.name[:8]}"
    return run
