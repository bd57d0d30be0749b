"""What the weights behind a store saw in pretraining, and whether the classes that they know by name are easier.

A few-shot test asks about classes that nothing has seen. Where the backbone was pretrained on a class of the same name,
that is only half true, so every result record says so. The comparison itself is made by `mastaf-extract --labels`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...cache.label_overlap import NEAR, NONE, SAME, LabelOverlap, pretraining_data
from ...cache.store import Store
from ...cache.text import shown
from ..records import Predictions
from .metrics import clustered_ci95


def pretraining_of(store: Store, split: str, predictions: Predictions) -> dict[str, Any]:
    """The record's field `pretraining`: {data, overlap}, plain JSON values.

    data: the data sets that the weights saw ([] for random weights), None where nothing is known. overlap: None
    where the classes of `split` were never compared with labels, else {labels: {file, sha256, n}, rule, same, near,
    none: names of the scored classes of each grade, accuracy: {overlapping, other}}; overlapping are the classes
    graded same or near, and each of the two has {classes, queries, accuracy, ci95_clustered}, or is None when no query
    was of such a class.
    """
    data = pretraining_data(store.header.provenance.get("weights_facts"))
    # What was compared are the test classes alone.
    overlap = store.label_overlap() if split == "test" else None
    return {"data": data, "overlap": None if overlap is None else _overlap(overlap, predictions)}


def random_weights(store: Store) -> bool:
    """Whether the backbone's weights were drawn, not learned: they come from `random`, or saw no data at all."""
    provenance = store.header.provenance
    drawn = str(provenance.get("weights_source", "")).startswith("random (seed")
    return drawn or pretraining_data(provenance.get("weights_facts")) == []


def _overlap(overlap: LabelOverlap, predictions: Predictions) -> dict[str, Any]:
    scored = set(predictions.class_names)
    names = {grade: [name for name in overlap.graded(grade) if name in scored] for grade in (SAME, NEAR, NONE)}
    known, other = [*names[SAME], *names[NEAR]], names[NONE]
    return {
        "labels": {"file": overlap.labels_file, "sha256": overlap.labels_sha256, "n": overlap.n_labels},
        "rule": overlap.rule,
        **names,
        "accuracy": {"overlapping": _scored(predictions, known), "other": _scored(predictions, other)},
    }


def _scored(predictions: Predictions, names: Iterable[str]) -> dict[str, Any] | None:
    """The accuracy on the queries of these classes; their episodes' other ways are of any class."""
    numbers = [predictions.class_names.index(name) for name in names]
    chosen = np.isin(predictions.query_class, numbers)  # [m]
    if not chosen.any():
        return None
    correct, classes = predictions.correct[chosen], predictions.query_class[chosen]  # [chosen], [chosen]
    return {
        "classes": len(np.unique(classes)),
        "queries": int(chosen.sum()),
        "accuracy": float(correct.mean()),
        "ci95_clustered": list(clustered_ci95(correct, predictions.query_row[chosen], classes)),
    }


def pretraining_lines(record: Mapping[str, Any]) -> list[str]:
    """The field `pretraining` of a record in words; no line where the weights saw nothing, or nobody knows what."""
    data, overlap = record["pretraining"]["data"], record["pretraining"]["overlap"]
    what = "pretraining (" + ("unknown" if data is None else shown(", ".join(data)) or "none") + ")"
    if overlap is None:
        return [] if not data else [f"{what}: not compared with the classes; see mastaf-extract --labels"]
    known = [*overlap[SAME], *overlap[NEAR]]
    count = len(known) + len(overlap[NONE])
    names = f": {shown(', '.join(known))}" if known else ""
    line = f"{what} saw {len(known)} of {count} classes by name ({shown(overlap['labels']['file'])}){names}"
    return [line, *(_accuracy_line(kind, found) for kind, found in overlap["accuracy"].items() if found)]


def _accuracy_line(kind: str, found: Mapping[str, Any]) -> str:
    low, high = found["ci95_clustered"]
    return (
        f"  accuracy on the {found['classes']} {kind} classes {100 * found['accuracy']:.1f} % "
        f"(clustered by class and video [{100 * low:.1f}, {100 * high:.1f}])"
    )
