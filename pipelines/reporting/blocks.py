"""Results that answer one question (same cubes, same episodes), as a table: its heads, and their pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ...cache.errors import CacheError
from ...fewshot.checkpoint import read_train_summary
from ...fewshot.errors import FewShotError
from ...fewshot.evaluation import Evaluation, per_class_of
from ...fewshot.records import Predictions, ResultRecord
from ...fewshot.statistics.comparison import ComparedPair, ComparedRow, compared_row
from ...fewshot.statistics.found_records import Found, Refused, read_answers
from ...fewshot.statistics.paired import paired_difference
from ...fewshot.statistics.pretraining import pretraining_lines
from ...fewshot.statistics.score_text import coverage_words
from ...fewshot.statistics.significance import holm
from ...fewshot.training.run_config import CONFIG_FILE, RunConfig, read_config

EVERY_PAIR = 8  # rows of which each pair is compared; of more, each with the base alone
_FIRST = ("neighbor", "self", "cross", "full")


@dataclass(frozen=True, eq=False)
class BlockRow:
    """A head of a block. title: unlike the other rows'; compared: its scores, a seed each; runs: their folders and
    settings, None without them; trained: whether a seed of training can have moved it; notes: what sets its number
    apart."""

    title: str
    compared: ComparedRow
    runs: tuple[tuple[Path | None, RunConfig | None], ...]
    trained: bool
    notes: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """Of the first seed."""
        return self.compared.record

    @property
    def run(self) -> Path | None:
        """Of the first seed."""
        return self.runs[0][0]

    @property
    def seeds(self) -> list[int | None]:
        """Of training, one a record."""
        return [record["seed"] for record in self.compared.records]

    @property
    def predictions(self) -> Predictions:
        """Of the first seed."""
        return self.compared.scored[0].predictions


@dataclass(frozen=True, eq=False)
class Block:
    """One table. pairs: Holm-corrected over all of them; base: title of the row that others are shown against;
    not_compared: pairs that cannot be, and why."""

    rows: list[BlockRow]
    pairs: list[ComparedPair]
    base: str
    not_compared: list[str]

    @property
    def record(self) -> dict[str, Any]:
        """One of its records: what all share is to be read from it."""
        return self.rows[0].record

    def minus_base(self, row: BlockRow) -> ComparedPair | None:
        """The pair of a row and the base."""
        return next((pair for pair in self.pairs if (pair.first, pair.second) == (row.title, self.base)), None)


def grouped(records: Sequence[Found]) -> list[list[Found]]:
    """Records of one question each, the test split first. A table must not mix kinds of features, nor precisions."""
    groups: dict[tuple[Any, ...], list[Found]] = {}
    for found in records:
        groups.setdefault(_question(found.record), []).append(found)
    return [groups[key] for key in sorted(groups, key=_order)]


def _question(r: ResultRecord) -> tuple[Any, ...]:
    half = r.train_precision == "bf16"
    shown = (r.split, r.dataset, r.backbone, r.random_weights, r.layer, r.adapter, r.precision, half)
    return (*shown, r.way, r.shot, r.query_mode, r.queries, r.recipe, r.store, r.episode_list)


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (("test", "val", "train").index(key[0]) if key[0] in ("test", "val", "train") else 3, *key[1:])


def build_block(records: Sequence[Found], root: Path) -> tuple[Block | None, list[Refused]]:
    """The table of records of one question; None where none of them is to be believed. root: that titles leave out."""
    refused, scored = [], []
    for found in records:
        answers = read_answers(found)
        if isinstance(answers, Refused):
            refused.append(answers)
        else:
            scored.append(Evaluation(found.record.to_json(), found.path, answers, per_class_of(answers)))
    if not scored:
        return None, refused
    rows = _rows(scored, root)
    base = _base(rows)
    pairs, left_out = _pairs(rows, base)
    return Block(rows, pairs, base, left_out), refused


def head_name(record: dict[str, Any]) -> str:
    """`mastaf full`, with what else makes it another head."""
    words = [record["method"], record["variant"] or ""]
    words += [f"({record['preset']})"] if record["preset"] not in (None, "code") else []
    return " ".join(word for word in words if word)


def _rows(scored: Sequence[Evaluation], root: Path) -> list[BlockRow]:
    """Rows of the evaluations; runs that differ in their seed alone are one row."""
    heads: dict[tuple[Any, ...], list[tuple[Evaluation, Path | None, RunConfig | None]]] = {}
    for found in scored:
        run, config = _run_of(found.path)
        heads.setdefault(_identity(found, config), []).append((found, run, config))
    groups = [group for same in heads.values() for group in _with_other_seeds(same)]
    groups.sort(key=lambda group: _place(group[0][0].record))
    names = [head_name(group[0][0].record) for group in groups]
    rows: list[BlockRow] = []
    for name, group in zip(names, groups, strict=True):
        first, run, config = group[0]
        title = name if names.count(name) == 1 else f"{name} in {_where(first.path, root)}"
        title = title if title not in [row.title for row in rows] else f"{title} ({first.path.name})"
        trained = config is not None and _is_trained(run, config)
        notes = notes_of(first.record)
        try:
            compared = compared_row(title, [found for found, _, _ in group], trained=trained)
        except FewShotError as error:  # an edited file may say that it is of this list
            compared = compared_row(title, [first], trained=trained)
            notes.append(f"other seeds left out: {error}")
        rows.append(BlockRow(title, compared, tuple((r, c) for _, r, c in group), trained, tuple(notes)))
    return rows


def _where(path: Path, root: Path) -> str:
    run = path.parent.parent
    return str(run.relative_to(root)) if run != root and run.is_relative_to(root) else run.name


def _run_of(path: Path) -> tuple[Path | None, RunConfig | None]:
    """The run that a record lies in, and its settings; none where there is none, or they are damaged."""
    run = path.parent.parent
    try:
        return (run, read_config(run)) if (run / CONFIG_FILE).is_file() else (None, None)
    except (FewShotError, CacheError, OSError):
        return None, None


def _is_trained(run: Path | None, config: RunConfig) -> bool:
    try:
        summary = None if run is None else read_train_summary(run)
    except (FewShotError, OSError):
        summary = None
    return config.train_episodes > 0 if summary is None else summary.trained is True


def _identity(found: Evaluation, config: RunConfig | None) -> tuple[Any, ...]:
    """What two records of one row have in common: all that decides a head but the seed."""
    names = ("method", "variant", "preset", "selected_on", "train_precision", "trained_on")
    said = tuple(repr(found.record[name]) for name in names)
    if config is None:
        return said
    settings = {k: v for k, v in config.to_json().items() if k not in ("seed", "provenance")}
    return (*said, repr(settings))


def _with_other_seeds(same: Sequence[Any]) -> Iterator[list[Any]]:
    """The evaluations of one head; a second one with the same seed, or with none, begins a row of its own."""
    row: list[Any] = []
    extra: list[Any] = []
    for one in sorted(same, key=lambda one: one[0].record["seed"] or 0):
        taken = {found.record["seed"] for found, _, _ in row}
        (extra if one[0].record["seed"] in taken else row).append(one)
    yield row
    yield from ([one] for one in extra)


def _place(record: dict[str, Any]) -> tuple[Any, ...]:
    variant = str(record["variant"])
    known = record["method"] == "mastaf" and variant in _FIRST
    return (not known, _FIRST.index(variant) if known else 0, head_name(record))


def notes_of(record: dict[str, Any]) -> list[str]:
    """What must not be overlooked of a number."""
    notes = ["selected on test"] if record["selected_on"] == "test" else []
    notes += ["random weights"] if record["random_weights"] else []
    notes += [f"{len(record['seen_classes'])} classes seen in training"] if record["seen_classes"] else []
    if record["trained_on"] and record["trained_on"].get("store") != record["store"]:
        notes.append("trained on another store")
    # The first line is about all rows of a block; the others are accuracies.
    return [*notes, *coverage_words(record), *(line.strip() for line in pretraining_lines(record)[1:])]


def _base(rows: Sequence[BlockRow]) -> str:
    """MASTAF as published, else Neighbor, which every head should be held against, else the first row."""
    for variant in ("full", "neighbor"):
        for row in rows:
            if (row.record["method"], row.record["variant"]) == ("mastaf", variant):
                return row.title
    return rows[0].title


def _pairs(rows: Sequence[BlockRow], base: str) -> tuple[list[ComparedPair], list[str]]:
    """Pairs of rows, corrected over all of them, and those that cannot be compared."""
    pairs, left_out = [], []
    for first, second in combinations(rows, 2):
        if first.title == base:
            first, second = second, first
        if len(rows) > EVERY_PAIR and second.title != base:
            continue
        answers = matched(first, second)
        if answers is None:
            left_out.append(f"{first.title} and {second.title}: they have no seed of training in common")
            continue
        try:
            found = paired_difference(*answers)
        except FewShotError as error:
            left_out.append(f"{first.title} and {second.title}: {error}")
            continue
        pairs.append(ComparedPair(first.title, second.title, first.compared.shot, found))
    corrected = holm([pair.difference.p for pair in pairs])
    shown = [
        ComparedPair(pair.first, pair.second, pair.shot, pair.difference.corrected(p))
        for pair, p in zip(pairs, corrected, strict=True)
    ]
    return shown, left_out


def matched(first: BlockRow, second: BlockRow) -> tuple[list[Predictions], list[Predictions]] | None:
    """Answers of two rows seed by seed; those of an untrained head are the same with any seed."""
    one, two = (dict(zip(r.seeds, (s.predictions for s in r.compared.scored), strict=True)) for r in (first, second))
    if not first.trained or not second.trained:
        count = max(len(one) if first.trained else 1, len(two) if second.trained else 1)
        many = [
            list(found.values()) if row.trained else [row.predictions] * count
            for row, found in ((first, one), (second, two))
        ]
        return many[0], many[1]
    common = [seed for seed in one if seed in two]
    return ([one[seed] for seed in common], [two[seed] for seed in common]) if common else None
