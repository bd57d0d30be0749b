"""Data sets that are a folder: ROOT/{train,val,test}/CLASS/VIDEO, or ROOT/CLASS/VIDEO."""

from collections.abc import Sequence
from pathlib import Path

from ...cache.index import SPLITS
from ...cache.text import shown
from ..errors import ExtractError
from .class_split import assign_splits
from .coverage import count_coverage
from .naming import VIDEO_SUFFIXES
from .scan import EMPTY, STRAY, FolderScan
from .videos import Listing, Video

LAYOUT = "ROOT/{train,val,test}/CLASS/VIDEO or ROOT/CLASS/VIDEO; a video is a file, or a folder of frames"
OUTSIDE = "folders beside train, val and test"
UNSORTED = "videos outside a class folder"


def read_folder(root: Path, *, scheme: str = "folder", seed: int = 0, follow_links: bool = False) -> Listing:
    """List a folder's videos. Splits come from its folders, or else from `assign_splits`.

    ExtractError when nothing is there or there is but one class.
    """
    scan = FolderScan(root, follow_links=follow_links)
    parts = _split_folders(scan)
    if parts:
        videos = [video for split, folder in parts.items() for video in _classes_in(scan, folder, split)]
        notes: tuple[str, ...] = ()
    else:
        videos, scheme, note = assign_splits(_classes_in(scan, scan.root, "test"), scheme, seed)
        notes = (note,)
    require_two_classes(videos, scan, root, LAYOUT)
    return Listing(
        videos=videos,
        scheme=scheme,
        coverage=count_coverage(videos),
        ignored=scan.ignored,
        notes=notes + scan.notes(),
    )


def require_two_classes(videos: Sequence[Video], scan: FolderScan, where: Path, expected: str) -> None:
    """ExtractError, saying what was left out, unless the videos are of two classes at least."""
    classes = {video.class_name for video in videos}
    left_out = f"; left out: {scan.counts()}" if scan.ignored else ""
    if not classes:
        raise ExtractError(f"no videos in {where}; expected {expected}{left_out}")
    if len(classes) == 1:
        raise ExtractError(
            f"{where} has only one class, '{shown(classes.pop())}', but few-shot learning needs at least two; "
            f"expected {expected}{left_out}"
        )


def _split_folders(scan: FolderScan) -> dict[str, Path]:
    """The folders train, val and test (in any case), unless they are classes of these names."""
    folders, files = scan.entries(scan.root)
    parts = {p.name.lower(): p for p in folders if p.name.lower() in SPLITS and _holds_classes(scan, p)}
    if parts:
        _ignore_files(scan, files)
        for path in folders:
            if path not in parts.values():
                scan.ignore(OUTSIDE, path)
    return {split: parts[split] for split in SPLITS if split in parts}


def _holds_classes(scan: FolderScan, folder: Path) -> bool:
    """Whether there are CLASS/VIDEO in the folder, or at least no videos that would make it a class itself."""
    # A scan of its own, so that nothing is counted as ignored by looking.
    probe = FolderScan(scan.root, follow_links=scan.links.follow)
    folders, _ = probe.entries(folder)
    within = any(probe.videos(path) for path in folders if not probe.is_frames(path))
    return within or not probe.videos(folder)


def _classes_in(scan: FolderScan, folder: Path, split: str) -> list[Video]:
    """The videos of CLASS/VIDEO in `folder`; a video's key is its path."""
    folders, files = scan.entries(folder)
    _ignore_files(scan, files)
    videos = []
    for class_folder in folders:
        found = [scan.relative(path) for path in scan.videos(class_folder)]
        videos += [Video(path, path, class_folder.name, split) for path in found]
        if not found:
            scan.ignore(EMPTY, class_folder)
    return videos


def _ignore_files(scan: FolderScan, files: Sequence[Path]) -> None:
    for path in files:
        scan.ignore(UNSORTED if path.suffix.lower() in VIDEO_SUFFIXES else STRAY, path)
