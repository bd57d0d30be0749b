"""`mastaf-cache info` in words, from the facts of describe.py."""

import json
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from . import console
from .label_overlap import LabelOverlap
from .text import shown

_WIDTH, _MOST_ROWS = 110, 10
_SPLIT_COLUMNS = ("classes", "expected", "found", "videos", "done", "failed", "missing")


def info_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The lines to print."""
    blocks = (_identity, _recipe, _splits, _classes, _rows, _pretraining, _provenance)
    for block in (make(facts) for make in blocks):
        yield from (line for text in block for line in text.split("\n"))
        yield ""


def _identity(facts: Mapping[str, Any]) -> Iterator[str]:
    shards = facts["shards"]
    views, c, t, h, w = (len(facts["spec"]["views"]), *facts["spec"]["cube_shape"])
    devices = ", ".join(f"{name} ({count} shards)" for name, count in facts["devices"].items()) or "none yet"
    yield f"{facts['path']}: {facts['videos']} videos of '{facts['dataset']}', split scheme '{facts['split_scheme']}'"
    dtype = facts["spec"]["dtype"]
    yield f"cubes    {dtype} [{facts['videos']}, {views}, {c}, {t}, {h}, {w}], {facts['compress'] or 'not compressed'}"
    written = f"{shards['written']} of {shards['all']} shards of {shards['rows']} rows"
    yield f"size     {facts['bytes'] / 1e6:.1f} MB; {written}"
    yield f"devices  {devices}; batch {facts['batch']}, {facts['threads']} threads a forward"
    yield f"recipe   {facts['recipe']}"
    yield f"store    {facts['store']}"


def _recipe(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "recipe:"
    for name, value in facts["spec"].items():
        text = (
            ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) if isinstance(value, list) else value
        )
        yield f"  {name:<14} {text}"


def _splits(facts: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [split, *("-" if counts[name] is None else counts[name] for name in _SPLIT_COLUMNS)]
        for split, counts in facts["splits"].items()
    ]
    yield console.table(rows, ["split", *_SPLIT_COLUMNS])


def _classes(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "classes, as cubes done / videos:"
    for split in facts["splits"]:
        entries = [entry for entry in facts["coverage"] if entry["split"] == split]
        words = ", ".join(f"{entry['class']} {entry['done']}/{entry['videos']}{_short(entry)}" for entry in entries)
        yield from wrap(f"{split}: {words or 'none'}", _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _short(entry: Mapping[str, Any]) -> str:
    short = 0 if entry["expected"] is None else entry["expected"] - entry["found"]
    return f" ({short} short of the published {entry['expected']})" if short > 0 else ""


def _rows(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, word in (("failures", "reason"), ("notes", "note")):
        entries = facts[name]
        yield f"{name}: {len(entries) or 'none'}"
        yield from (f"  '{shown(e['key'])}' (row {e['row']}): {shown(e[word])}" for e in entries[:_MOST_ROWS])
        if len(entries) > _MOST_ROWS:
            yield f"  ... and {len(entries) - _MOST_ROWS} more; --json FILE has them all"


def _pretraining(facts: Mapping[str, Any]) -> Iterator[str]:
    data, overlap = facts["pretraining"]["data"], facts["pretraining"]["overlap"]
    yield f"pretraining of the weights: {'unknown' if data is None else shown(', '.join(data)) or 'none'}"
    if overlap is None:
        yield "  not compared with the test classes; mastaf-extract --labels FILE does that, also for this store"
    else:
        yield from LabelOverlap.from_json(overlap).lines(facts["provenance"].get("weights_facts"))


def _provenance(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "provenance:" if facts["provenance"] else "provenance: none"
    for name, value in facts["provenance"].items():
        yield f"  {name:<14} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
