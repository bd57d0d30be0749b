"""A scored list on disk: its record and predictions, and whether an earlier command has left them already."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.atomic import write_json
from ..cache.checks import parse_json
from ..cache.errors import CacheError
from .cubes.bank import FeatureBank
from .environment import versions
from .episodes.listing import Listing
from .episodes.sources import RANDOM
from .errors import FewShotError
from .head import Head
from .records import Predictions, read_predictions, read_record, write_result
from .statistics.calibration import expected_calibration_error
from .statistics.metrics import clustered_ci95, episode_accuracy, mean_and_ci95, per_class_accuracy
from .statistics.pretraining import pretraining_of, random_weights

# Beside a record: of which weights it is, and how long they took. Written last, so that a record without it counts as
# one that was never finished.
SCORED = ".scored"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A scored list. record: as on disk; path: of the record; per_class: class -> (accuracy, queries); scoring_s:
    seconds that scoring alone took this head, when it was done."""

    record: dict[str, Any]
    path: Path
    predictions: Predictions
    per_class: dict[str, tuple[float, int]]
    scoring_s: float = 0.0

    @property
    def episodes_per_s(self) -> float:
        """Episodes that were scored in a second."""
        return self.record["episodes"] / max(self.scoring_s, 1e-9)


@dataclass(frozen=True, eq=False)
class Asked:
    """One head on one list. folder: of the result; stamps: the record's precision and seen_classes."""

    head: Head
    bank: FeatureBank
    listing: Listing
    folder: Path
    stamps: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Of the record."""
        listing, bank = self.listing, self.bank
        e, (way, shot) = len(listing.rows), listing.rows.support.shape[1:]
        kind = "" if listing.episodes_from == RANDOM else f"_{listing.episodes_from}"
        rounded = "" if self.stamps["precision"] == "fp32" else "_bf16"
        asked = f"{way}way_{shot}shot_{listing.query_mode}{listing.queries}{kind}_{e}_{listing.digest[:8]}"
        return self.folder / f"{bank.split}_{asked}{rounded}{self.head.suffix}.json"

    @property
    def settled(self) -> dict[str, Any]:
        """The record's fields that are known before anything is scored."""
        listing, store = self.listing, self.bank.store
        way, shot = listing.rows.support.shape[1:]
        return {
            **self.head.facts,
            "dataset": store.header.dataset,
            **{f: getattr(store.spec, f) for f in ("backbone", "layer", "time", "frames", "size")},
            "cube_shape": list(store.spec.cube_shape),
            "random_weights": random_weights(store),
            "way": way,
            "shot": shot,
            **{f: getattr(listing, f) for f in ("query_mode", "queries", "episodes_from", "source_shared")},
            "list_seed": listing.list_seed,
            "episodes": len(listing.rows),
            "split": self.bank.split,
            "classes": len(self.bank.class_names),
            "recipe": store.spec.recipe,
            "store": store.digest,
            "episode_list": listing.digest,
            "coverage": self.bank.coverage,
            **self.stamps,
            "versions": versions(self.head.name),
        }


def write_evaluation(asked: Asked, logits: np.ndarray, *, start: float, scoring_s: float) -> Evaluation:
    """Write record and predictions of logits float32 [e, q, way]. start: of the evaluation, by time.monotonic()."""
    predictions = _predictions(asked.bank, asked.listing, logits)
    correct = predictions.by_episode(predictions.correct)  # [e, q]
    accuracy, half = mean_and_ci95(episode_accuracy(correct))
    of_class = predictions.by_episode(predictions.query_class)  # [e, q]
    path = asked.path
    record = write_result(
        path.parent / path.name.removesuffix(".json"),
        predictions,
        **asked.settled,
        accuracy=accuracy,
        ci95=half,
        ci95_clustered=list(clustered_ci95(correct, asked.listing.rows.query, of_class)),
        ece=expected_calibration_error(predictions.logits, predictions.label),
        pretraining=pretraining_of(asked.bank.store, asked.bank.split, predictions),
        seconds=round(time.monotonic() - start, 3),
    )
    if asked.head.weights is not None:
        proof = {"weights": _sha256(asked.head.weights), "record": _sha256(path), "seconds": scoring_s}
        write_json(_beside(path), proof)
    return Evaluation(record.to_json(), path, predictions, per_class_of(predictions), scoring_s)


def read_evaluation(asked: Asked) -> Evaluation | None:
    """What an earlier command found for these weights on this list, with these versions; None where one differs."""
    path, weights = asked.path, asked.head.weights
    try:
        proof = parse_json(_beside(path).read_bytes(), str(path))
        seconds = float(proof["seconds"])
        if weights is None or (proof["weights"], proof["record"]) != (_sha256(weights), _sha256(path)):
            return None
        record = read_record(path).to_json()
        named = record["predictions"]
        predictions = read_predictions(path.parent / named["path"], named["sha256"])
    except (OSError, CacheError, FewShotError, KeyError, TypeError, ValueError):
        return None  # not there, or not whole: it is scored again
    # JSON has no tuples, and labels may have been compared since.
    settled = json.loads(json.dumps(asked.settled))
    settled["pretraining"] = pretraining_of(asked.bank.store, asked.bank.split, predictions)
    if any(record[name] != value for name, value in settled.items()):
        return None
    return Evaluation(record, path, predictions, per_class_of(predictions), seconds)


def _predictions(bank: FeatureBank, listing: Listing, logits: np.ndarray) -> Predictions:
    """The answers of logits float32 [e, q, way]."""
    rows, (e, q, way) = listing.rows, logits.shape
    return Predictions(
        episode=np.repeat(np.arange(e), q),  # [e * q]
        query_row=bank.rows[rows.query].ravel(),  # [e * q]
        label=rows.labels.ravel(),  # [e * q]
        predicted=logits.argmax(axis=2).ravel(),  # [e * q]
        logits=logits.reshape(e * q, way),  # [e * q, way]
        classes=np.repeat(rows.classes, q, axis=0),  # [e * q, way]
        class_names=tuple(bank.class_names),
    )


def per_class_of(predictions: Predictions) -> dict[str, tuple[float, int]]:
    correct, of_class = predictions.by_episode(predictions.correct), predictions.by_episode(predictions.query_class)
    return per_class_accuracy(correct, of_class, predictions.class_names)


def _beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json") + SCORED)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
