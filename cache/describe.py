"""What is in a store, as plain values: for `mastaf-cache info`, its `--json`, and reports."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from .base import Store
from .index import SPLITS, STATE_NAMES
from .label_overlap import pretraining_data
from .place import ObjectUrl


def describe_store(store: Store) -> dict[str, Any]:
    """A dictionary of plain JSON values: recipe, digests, counts, coverage, size, failures, notes, provenance."""
    store.refresh()
    header, index = store.header, store.index
    coverage = _coverage(store)
    records = list(store.records())
    return {
        "path": str(store.path),
        "schema": header.schema,
        "dataset": header.dataset,
        "split_scheme": header.split_scheme,
        "flip_keeps_class": header.flip_keeps_class,
        "recipe": store.spec.recipe,
        "store": store.digest,
        "spec": store.spec.to_json(),
        "videos": len(index),
        "shards": {"written": len(records), "all": store.n_shards, "rows": header.shard_rows},
        "compress": header.compress,
        "batch": header.batch,
        "threads": header.threads,
        "bytes": stored_bytes(store),
        "devices": dict(Counter(record.device for record in records)),
        "splits": {split: _total([e for e in coverage if e["split"] == split]) for split in SPLITS},
        "coverage": coverage,
        "failures": [{"row": r, "key": index.keys[r], "reason": why} for r, why in sorted(store.reasons().items())],
        "notes": [{"row": r, "key": index.keys[r], "note": note} for r, note in sorted(store.notes().items())],
        "pretraining": _pretraining(store),
        "provenance": header.provenance,
    }


def _pretraining(store: Store) -> dict[str, Any]:
    """data: what the weights saw, None where unknown; overlap: the finding on its labels, None where none was made."""
    data, overlap = pretraining_data(store.header.provenance.get("weights_facts")), store.label_overlap()
    return {"data": data, "overlap": None if overlap is None else overlap.to_json()}


def stored_bytes(store: Store) -> int:
    """Bytes of all files of a store."""
    if isinstance(store.path, ObjectUrl):
        from .bucket_files import BucketFiles

        return sum(BucketFiles(store.path).sizes(most=4 * store.n_shards))
    total = 0
    for part in type(store).parts:
        place = store.path.with_name(store.path.name + part)
        total += place.stat().st_size if place.is_file() else _folder_bytes(place)
    return total


def _folder_bytes(folder: Path) -> int:
    return sum(os.lstat(Path(place) / name).st_size for place, _, files in os.walk(folder) for name in files)


def _coverage(store: Store) -> list[dict[str, Any]]:
    """One entry a class and split: videos expected (None where nothing is published) and found; rows by state."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for split, name, state in zip(store.index.splits, store.index.classes, store.states().tolist(), strict=True):
        rows.setdefault((split, name), Counter())[STATE_NAMES[state]] += 1
    published = {(entry["split"], entry["class"]): entry for entry in store.header.coverage}
    entries = []
    for split, name in sorted({*rows, *published}, key=lambda pair: (SPLITS.index(pair[0]), pair[1])):
        counts = rows.get((split, name), Counter())
        known = published.get((split, name), {"found": counts.total(), "expected": None})
        states = {state: counts[state] for state in ("done", "failed", "missing")}
        found = {"expected": known["expected"], "found": known["found"], "videos": counts.total()}
        entries.append({"split": split, "class": name} | found | states)
    return entries


def _total(entries: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {name: sum(e[name] for e in entries) for name in ("videos", "done", "failed", "missing", "found")}
    expected = [e["expected"] for e in entries if e["expected"] is not None]
    return {"classes": len(entries), "expected": sum(expected) if expected else None} | counts
