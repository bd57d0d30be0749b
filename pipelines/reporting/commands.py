"""The commands that make a record and a run again, from what they say of themselves."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from ...fewshot.cli_options import words_of
from ...fewshot.head import keywords_of
from ...fewshot.records import ResultRecord
from ...fewshot.training.run_config import RunConfig

UNKNOWN_STORE, UNKNOWN_RUN = "STORE", "RUN"  # stand for those that were not found
_TRAINED = ("method", "way", "shot", "query_mode", "queries", "train_episodes", "batch", "seed", "val_episodes")
_TRAINED += ("val_every", "patience", "select_on", "lr", "optimiser", "weight_decay", "schedule", "step_every")
_TRAINED += ("step_factor", "clip_norm", "label_smoothing", "train_precision")


def evaluate_command(
    record: ResultRecord, path: Path, *, store: str, run: Path | None, lists: Mapping[str, Path]
) -> str:
    """The command that scores again what the record `path` says. store: the path of its store; run: that it lies in,
    None for a head without one, of which a record has only the name, variant and preset; lists: files by sha256."""
    words = ["mastaf-fewshot", "evaluate", "--features", store]
    if run is not None:
        # Weights that are not the run's choice stand behind the name of their record.
        weights = run / f"{path.stem.rpartition('_')[2]}.safetensors"
        words += ["--checkpoint", str(weights if weights.is_file() else run)]
    elif record.trained_on is not None:
        words += ["--checkpoint", UNKNOWN_RUN]  # its results went elsewhere
    else:
        keywords = keywords_of(record.variant) | ({} if record.preset in (None, "code") else {"preset": record.preset})
        words += ["--method", record.method]
        words += ["--variant", keywords.pop("variant")] if "variant" in keywords else []
        words += [word for name, value in keywords.items() for word in ("--set", f"{name}={_value(value)}")]
    words += ["--split", record.split]
    if record.list_seed is None:
        words += ["--episode-list", str(lists.get(record.episode_list, f"LIST_{record.episode_list[:8]}"))]
    else:
        names = ("episodes", "list_seed", "episodes_from", "way", "shot", "query_mode", "queries")
        words += words_of({name: getattr(record, name) for name in names})
    words += ["--precision", record.precision] if record.precision != "fp32" else []
    words += ["--allow-seen-classes"] if record.seen_classes else []
    words += ["--allow-partial"] if record.coverage["missing"] else []
    return shlex.join([*words, *([] if run is not None else ["--out", str(path.parent.parent)])])


def train_command(config: RunConfig, *, store: str, out: Path) -> str:
    """The command that trains a run again, every setting spelled out; '' where no single command does."""
    if config.train_episodes and config.select_on == "none" and config.val_episodes is None and config.val_videos == "":
        return ""  # of a table on val, say, whose rows select nothing
    settings = {name: getattr(config, name) for name in _TRAINED}
    if config.train_episodes == 0:  # not trained by episodes, so their settings would be refused
        episodic = {*_TRAINED} - {"method", "way", "shot", "seed"}
        settings = {name: value for name, value in settings.items() if name not in episodic}
    if config.val_list:
        settings |= {"val_episodes": None}
    if config.select_on == "none":
        settings |= {"val_episodes": None, "select_on": None}
    own = {k: v for k, v in config.keywords.items() if k not in ("cube_shape", "n_train_classes") and v is not None}
    words = words_of({**settings, "method_keywords": own})
    listed = ["--episode-list", f"LIST_{config.val_list[:8]}"] if config.val_list else []
    return shlex.join(["mastaf-fewshot", "train", "--features", store, *words, *listed, "--out", str(out)])


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
