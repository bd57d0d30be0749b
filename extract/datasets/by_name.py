"""Data sets by name: where their videos are, which split they follow, and what is known about them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ...cache.console import unknown_name
from ..errors import ExtractError
from .csv_list import read_csv
from .folder import read_folder
from .published import read_published
from .videos import Listing, VideoSet, ordered_index


@dataclass(frozen=True, kw_only=True)
class Facts:
    """scheme: name of the split; flip_keeps_class: whether a mirrored video keeps its class (directions are labels
    in some); kind: `classes` (a published split of whole classes), `lists` (one that chooses among videos, so its
    list files are needed), `folder`, or `motion` (rendered)."""

    scheme: str
    flip_keeps_class: bool
    kind: str


DATASETS = {
    "hmdb51": Facts(scheme="hmdb51-arn", flip_keeps_class=True, kind="classes"),
    "ucf101": Facts(scheme="ucf101-arn", flip_keeps_class=True, kind="classes"),
    "ssv2-cmn": Facts(scheme="ssv2-cmn", flip_keeps_class=False, kind="lists"),
    "ssv2-otam": Facts(scheme="ssv2-otam", flip_keeps_class=False, kind="lists"),
    "kinetics-cmn": Facts(scheme="kinetics-cmn", flip_keeps_class=True, kind="lists"),
    "motion": Facts(scheme="motion", flip_keeps_class=False, kind="motion"),
    # Nothing is known about the classes of one's own folder; most actions keep their name in a mirror.
    "folder": Facts(scheme="folder", flip_keeps_class=True, kind="folder"),
}
CSV = Facts(scheme="csv", flip_keeps_class=True, kind="csv")


def find_dataset(
    name_or_csv: str,
    *,
    root: Path | None = None,
    split_files: Path | None = None,
    seed: int = 0,
    follow_links: bool = False,
) -> VideoSet:
    """Find a data set's videos on disk and order them.

    name_or_csv: a name of DATASETS, or the path of a CSV file (columns path, class, split); root: where the videos
    are, else `$MASTAF_DATA/<name>`, else `data/<name>`, and for a CSV file its own folder; split_files: folder of
    the published list files; seed: of the class split, where a folder or CSV file does not say; follow_links: links may
    leave the root. Raises ExtractError.
    """
    facts = _facts(name_or_csv)
    csv_path = Path(name_or_csv) if facts.kind == "csv" else None
    if root is None:
        root = csv_path.parent if csv_path else default_root(name_or_csv)
    root = Path(root)
    if split_files is not None and facts.kind not in ("classes", "lists"):
        raise ExtractError(
            f"--split-files belongs to data sets with a published split, not to '{name_or_csv}'; leave it out"
        )
    if facts.kind == "motion":
        _render(root)
    elif not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise ExtractError(f"the root of '{name_or_csv}' ({root}) {problem}; give --root DIR, or set MASTAF_DATA")
    listing = _read(name_or_csv, facts, csv_path, root, split_files, seed, follow_links)
    return VideoSet(
        name=csv_path.name if csv_path else name_or_csv,
        root=root,
        split_scheme=listing.scheme,
        flip_keeps_class=facts.flip_keeps_class,
        index=ordered_index(listing.videos),
        coverage=listing.coverage,
        follow_links=follow_links,
        ignored=listing.ignored,
        absent=listing.absent,
        notes=listing.notes,
    )


def default_root(name: str) -> Path:
    """`$MASTAF_DATA/<name>` if the variable is set, else `data/<name>`."""
    return Path(os.environ.get("MASTAF_DATA") or "data") / name


def _facts(name_or_csv: str) -> Facts:
    if name_or_csv in DATASETS:
        return DATASETS[name_or_csv]
    if Path(name_or_csv).suffix.lower() != ".csv":
        raise ExtractError(unknown_name("data set", name_or_csv, [*DATASETS, "FILE.csv"]))
    if not Path(name_or_csv).is_file():
        raise ExtractError(f"the CSV file {name_or_csv} does not exist")
    return CSV


def _read(
    name: str,
    facts: Facts,
    csv_path: Path | None,
    root: Path,
    split_files: Path | None,
    seed: int,
    follow_links: bool,
) -> Listing:
    if facts.kind in ("classes", "lists"):
        needs_lists = facts.kind == "lists"
        return read_published(
            name, facts.scheme, root, split_files=split_files, needs_lists=needs_lists, follow_links=follow_links
        )
    if csv_path is not None:
        return read_csv(csv_path, root=root, seed=seed, follow_links=follow_links)
    listing = read_folder(root, scheme=facts.scheme, seed=seed, follow_links=follow_links)
    # What stands beside the rendered clips is the renderer's own.
    return replace(listing, ignored={}) if facts.kind == "motion" else listing


def _render(root: Path) -> None:
    from .motion import render_motion

    render_motion(root)
