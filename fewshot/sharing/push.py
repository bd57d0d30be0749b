"""Pushing a finished run to a repository of the Hugging Face hub, in one commit."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.checks import json_text, parse_json
from ...cache.errors import CacheError
from ...cache.hub import hub_errors
from ..checkpoint import SUMMARY_FILE, finished_summary, load_run_for
from ..errors import FewShotError
from ..evaluation import SCORED
from ..statistics.found_records import RESULTS, Found, check_answers, find_records
from ..training.run_config import CONFIG_FILE, RunConfig, read_config
from .card import card_of
from .fetch import RUN_FILES
from .names import parse_repo

_CARD = "README.md"
_THERE_ANYWAY = (".gitattributes", _CARD)  # of an empty repository


@dataclass(frozen=True)
class Parcel:
    """What is pushed. files: content by path; results: how many; left_out: records that stay here, and why."""

    files: dict[str, bytes]
    results: int
    left_out: list[str]


def push_run(run: Path, to: str, *, private: bool = False, licence: str | None = None) -> dict[str, Any]:
    """Push a run's settings, chosen weights, results and card to `to` (USER/REPO), made if it is not there.

    Returns what was done, plain values. Raises FewShotError in one line, before anything is sent where it can.
    """
    repo = parse_repo(to)
    parcel = pack_run(Path(run), repo, licence=licence)
    token = _token()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token, library_name="mastaf")
    without = "check the network and the token (`hf auth whoami`), and push again"
    with hub_errors(f"'{repo}'", raising=FewShotError, mend="--to", failed="could not be pushed to", without=without):
        there = _look(api, repo, private=private)
        if there is None:
            api.create_repo(repo, private=private, exist_ok=True)
        add = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=data) for path, data in parcel.files.items()]
        old = [path for path in there or [] if _is_ours(path) and path not in parcel.files]
        gone = [CommitOperationDelete(path_in_repo=path) for path in old]
        done = api.create_commit(repo, [*add, *gone], commit_message="A run of mastaf")
    return {
        "repo": repo,
        "checkpoint": f"hf:{repo}",
        "url": str(done.repo_url),
        "commit": done.oid,
        "files": sorted(parcel.files),
        "results": parcel.results,
        "left_out": parcel.left_out,
    }


def pack_run(run: Path, repo: str, *, licence: str | None = None) -> Parcel:
    """The files of a run as they are pushed; paths of this machine stay here. Raises FewShotError."""
    if not (run / CONFIG_FILE).is_file():
        raise FewShotError(f"run ({run}) must be the folder that mastaf-fewshot train wrote: it has no {CONFIG_FILE}")
    summary = finished_summary(run)
    loaded = load_run_for(run, read_config(run).spec, f"run {run}")  # refuses what would not load again
    weights = (run / summary.weights).read_bytes()
    found, left_out = _results(run, hashlib.sha256(weights).hexdigest())
    told = {**summary.to_json(), "out": run.resolve().name}
    files = {
        CONFIG_FILE: json_text(_without_paths(loaded.config)),
        SUMMARY_FILE: json_text(told),
        summary.weights: weights,
    }
    for one in found:
        for name in (one.path.name, one.record.predictions["path"]):
            files[f"{RESULTS}/{name}"] = (one.path.parent / name).read_bytes()
    card = card_of(repo, loaded.config, summary, [one.record for one in found], licence=licence)
    return Parcel(files | {_CARD: card.encode()}, len(found), left_out)


def _without_paths(config: RunConfig) -> dict[str, Any]:
    """The settings; of the store's place its name alone."""
    value = config.to_json()
    place = value["provenance"].get("store")
    return value | {"provenance": value["provenance"] | ({"store": Path(str(place)).name} if place else {})}


def _results(run: Path, weights: str) -> tuple[list[Found], list[str]]:
    """The run's records that can be believed and are of these weights (sha256), and why the others stay here."""
    if not (run / RESULTS).is_dir():
        return [], []
    records, refused = find_records(run / RESULTS)
    found, left_out = [], [one.reason for one in refused]
    for one in records:
        wrong = check_answers(one)
        if wrong is not None:
            left_out.append(wrong.reason)
        elif _scored_weights(one.path) != weights:
            left_out.append(f"{one.path} is of other weights of the run")
        else:
            found.append(one)
    return found, left_out


def _scored_weights(path: Path) -> str:
    """sha256 of the weights that a record is of, '' where nothing says it."""
    proof = path.with_name(path.name.removesuffix(".json") + SCORED)
    try:
        value = parse_json(proof.read_bytes(), str(proof))
        same = value["record"] == hashlib.sha256(path.read_bytes()).hexdigest()
        return str(value["weights"]) if same else ""
    except (OSError, CacheError, KeyError, TypeError):
        return ""


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise FewShotError(
            "no token of the Hugging Face hub; run `hf auth login`, or set HF_TOKEN to one that may write"
        )
    return token


def _look(api: Any, repo: str, *, private: bool) -> list[str] | None:
    """The files of the repository, None where it is not there. Raises FewShotError for one of another kind."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(repo)
    except RepositoryNotFoundError:
        return None
    if private and not info.private:
        raise FewShotError(f"'{repo}' is there and public; make it private on its settings page, or push to another")
    files = [file.rfilename for file in info.siblings or []]
    strangers = sorted(file for file in files if not _is_ours(file) and file not in _THERE_ANYWAY)
    if strangers:
        raise FewShotError(f"'{repo}' holds other files ({strangers[0]}) than a run's; push to another repository")
    return files


def _is_ours(path: str) -> bool:
    return path in (*RUN_FILES, _CARD) or path.startswith(f"{RESULTS}/")
