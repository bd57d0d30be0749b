"""Matching the videos of published lists to what lies on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ExtractError
from ..splits.table import SplitClass
from .naming import Spellings, stem_of
from .published_names import aliases

Entry = tuple[str, str]  # (class, published stem)


def match_listed(
    dataset: str,
    listed: Sequence[tuple[SplitClass, str]],
    present: Sequence[tuple[SplitClass | None, Path]],
    *,
    root: Path,
) -> dict[Entry, Path]:
    """Listed video -> its path, for those that are there.

    listed: (class, published stem); present: (class whose folder it is in, or None, path). A video in a class's
    folder is matched within the class, one outside by its name alone. The exact name beats a folded or squeezed
    one, the published name beats an alias. ExtractError, naming both, when two paths fit a listed video equally well.
    """
    names = _names_by_class(dataset, listed)
    best: dict[Entry, tuple[int, Path]] = {}
    for owner, path in present:
        pool = names.get(owner.name if owner else None)
        match = pool.find(stem_of(path.name)) if pool else None
        if match is None:
            continue
        (entry, alias), looseness = match
        rank = 2 * looseness + alias
        held = best.get(entry)
        if held is not None and held[0] == rank:
            one, two = (p.relative_to(root).as_posix() for p in (held[1], path))
            raise ExtractError(
                f"'{one}' and '{two}' are both '{entry[0]}/{entry[1]}'; rename one of them or move it away"
            )
        if held is None or rank < held[0]:
            best[entry] = (rank, path)
    return {entry: path for entry, (_, path) in best.items()}


def _names_by_class(
    dataset: str, listed: Sequence[tuple[SplitClass, str]]
) -> Mapping[str | None, Spellings[tuple[Entry, int]]]:
    """Class -> spellings of its listed videos; None -> those of all videos."""
    pairs: dict[str | None, list[tuple[str, tuple[Entry, int]]]] = {None: []}
    for owner, stem in listed:
        for number, name in enumerate(aliases(dataset, stem)):
            item = (name, ((owner.name, stem), number))
            pairs[None].append(item)
            pairs.setdefault(owner.name, []).append(item)
    return {name: Spellings(items) for name, items in pairs.items()}
