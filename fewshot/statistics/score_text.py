"""What `evaluate` says of a score, for the terminal and as JSON."""

from collections.abc import Mapping
from typing import Any

from ...cache.console import table
from ..evaluation import Evaluation
from .confusion import confusion_of
from .pretraining import pretraining_lines
from .protocol_gap import ProtocolGap
from .table import interval, percent, points

_MISTAKES = 5


def score_lines(found: Evaluation) -> list[str]:
    """One score: what was scored, the number and its intervals, classes, mistakes."""
    record = found.record
    rows = [[name, f"{100 * accuracy:.1f}", str(count)] for name, (accuracy, count) in found.per_class.items()]
    worst = confusion_of(found.predictions).worst(_MISTAKES)
    mistakes = [[true, answer, f"{100 * share:.1f}", str(count)] for true, answer, share, count in worst]
    lines = [
        _title(record),
        f"accuracy {percent(record['accuracy'], record['ci95'])} % (95 % interval over episodes; clustered by class "
        f"and video {interval(*record['ci95_clustered'])}); calibration error {100 * record['ece']:.1f} %",
        table(rows, ["class", "accuracy %", "queries"]),
    ]
    if mistakes:
        lines.append(table(mistakes, ["class", "taken for", "% of the times it could be", "times"]))
    return [*lines, *pretraining_lines(record), f"record: {found.path}"]


def gap_lines(found: ProtocolGap) -> list[str]:
    """Both protocols and what lies between them."""
    record = found.random.record
    noise = ", within noise" if found.gap.within_noise else ""
    rows = [
        [r["episodes_from"], percent(r["accuracy"], r["ci95"]), f"{100 * r['source_shared']:.1f}"]
        for r in (record, found.disjoint.record)
    ]
    return [
        _title(record),
        table(rows, ["episodes from", "accuracy %", "% of queries with their own source among the supports"]),
        f"gap on the same queries: {points(found.gap)} points (clustered 95 % interval; McNemar's p "
        f"{found.gap.p:.2g}){noise}",
        f"records: {found.random.path}, {found.disjoint.path}",
    ]


def coverage_words(record: Mapping[str, Any]) -> list[str]:
    """`videos left out: 3 failed`, nothing where all are there."""
    left_out = [f"{record['coverage'][state]} {state}" for state in ("failed", "missing") if record["coverage"][state]]
    return [f"videos left out: {', '.join(left_out)}"] if left_out else []


def score_summary(found: Evaluation) -> dict[str, Any]:
    """What `--json` holds: the record, accuracy by class, the confusion counts and the record's path."""
    per_class = {name: accuracy for name, (accuracy, _) in found.per_class.items()}
    confusion = confusion_of(found.predictions).to_json()
    return {**found.record, "per_class": per_class, "confusion": confusion, "path": str(found.path)}


def _title(record: dict[str, Any]) -> str:
    """Head, episodes, and everything that a reader must know of how the number came about."""
    head = f"{record['method']} {record['variant'] or ''}".strip() + (" + adapter" if record["adapter"] else "")
    notes = [f"selected on: {record['selected_on']}"]
    notes += [] if record["precision"] == "fp32" else [f"precision: {record['precision']}"]
    notes += ["trained in bf16"] if record["train_precision"] == "bf16" else []
    notes += [f"{len(record['seen_classes'])} classes seen in training"] if record["seen_classes"] else []
    if record["trained_on"] and record["trained_on"]["store"] != record["store"]:
        notes.append(f"trained on another store ({record['trained_on']['split_scheme']})")
    notes += coverage_words(record)
    return (
        f"{head}, {record['way']}-way {record['shot']}-shot on {record['split']}, {record['episodes']} episodes, "
        + "; ".join(notes)
    )
