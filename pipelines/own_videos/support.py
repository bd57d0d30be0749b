"""The example clips of classes: found in a folder or given, named by their content, none twice."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...cache.text import shown
from ...extract.datasets.folder import UNSORTED
from ...extract.datasets.links import Links
from ...extract.datasets.naming import VIDEO_SUFFIXES, is_frame_name
from ...extract.datasets.scan import FolderScan
from ...extract.decoding.frame_folder import list_frames
from ...extract.errors import VideoError
from ..errors import PipelineError
from .enrolment import Example, require_contents, require_name

_DEEPEST = 16  # folders inside each other that are searched for clips to classify


@dataclass(frozen=True)
class SupportClip:
    """A clip that is to be enrolled. links: where those of its frames may lead."""

    path: Path
    example: Example
    links: Links


@dataclass(frozen=True)
class Support:
    """clips: to be enrolled, each content once; failures: (clip, reason) of those that cannot be read; notes: on what
    was left out."""

    clips: list[SupportClip]
    failures: list[tuple[str, str]]
    notes: list[str]


Given = Path | str | Mapping[str, Sequence[Path | str]]


def find_support(given: Given, *, follow_links: bool = False) -> Support:
    """The clips of a folder CLASS/VIDEO, or of a mapping from class to paths.

    PipelineError for a class without a clip, and for one content in two classes.
    """
    notes: list[str] = []
    if isinstance(given, Mapping):
        found = [(name, Path(path), Links(Path(path), follow_links)) for name in given for path in given[name]]
        names, classes = [f"{name}/{path.name}" for name, path, _ in found], list(given)
    else:
        found, classes, notes = _in_folder(Path(given), follow_links)
        names = [path.relative_to(Path(given).absolute()).as_posix() for _, path, _ in found]
    for name in classes:
        require_name(name)
    without = [name for name in classes if name not in {of_class for of_class, _, _ in found}]
    if without:
        words = ", ".join(f"'{shown(name)}'" for name in without)
        raise PipelineError(
            f"no example clip for class {words}; add a video to it, or leave the class out"
            " (a clip lies in CLASS/ itself, no folder deeper)"
        )
    return _once([(*one, name) for one, name in zip(found, names, strict=True)], notes)


def _in_folder(root: Path, follow_links: bool) -> tuple[list[tuple[str, Path, Links]], list[str], list[str]]:
    """(class, path, links) of each video in ROOT/CLASS, all classes, and notes."""
    if not root.is_dir():
        raise PipelineError(f"support ({root}) must be a folder that holds CLASS/VIDEO")
    scan = FolderScan(root, follow_links=follow_links)
    folders, files = scan.entries(scan.root)
    for path in files:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            scan.ignore(UNSORTED, path)
    found = [(folder.name, path, scan.links) for folder in folders for path in scan.videos(folder)]
    if not folders:
        raise PipelineError(f"no class folders in {root}; it must hold CLASS/VIDEO, a folder for each class")
    return found, [folder.name for folder in folders], list(scan.notes())


def _once(found: Sequence[tuple[str, Path, Links, str]], notes: list[str]) -> Support:
    clips: list[SupportClip] = []
    failures: list[tuple[str, str]] = []
    seen: dict[tuple[str, str], str] = {}
    for class_name, path, links, name in found:
        try:
            digest = content_digest(path)
        except VideoError as error:
            failures.append((str(path), str(error)))
            continue
        first = seen.setdefault((class_name, digest), name)
        if first != name:
            notes.append(f"'{shown(name)}' has the content of '{shown(first)}', and is left out")
            continue
        clips.append(SupportClip(path, Example(class_name=class_name, name=name, sha256=digest), links))
    require_contents([clip.example for clip in clips])
    return Support(clips, failures, notes)


def content_digest(path: Path) -> str:
    """sha256 (hex) of a video file, or of a folder's frames in their order. VideoError where it cannot be read."""
    total = hashlib.sha256()
    try:
        if not path.is_dir():
            return _file_digest(path)
        for name in list_frames(path):
            total.update(bytes.fromhex(_file_digest(path / name)))
    except OSError as error:
        raise VideoError(f"cannot be opened: {error.strerror}") from error
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    # Not blocking, and regular files alone: a pipe would hang here.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        if not path.is_file():
            raise VideoError("neither a file nor a folder of frames")
        return hashlib.file_digest(file, "sha256").hexdigest()


def queries_in(path: Path) -> list[Path]:
    """A video as it is; of any other folder the videos below it."""
    return videos_below(path) if path.is_dir() and not _is_clip(path) else [path]


def videos_below(folder: Path) -> list[Path]:
    """The videos in a folder and its folders, in natural order; no link to a folder is followed."""
    scan = FolderScan(folder)
    return [folder / found.relative_to(scan.root) for found in _below(scan, scan.root, 0)]


def _below(scan: FolderScan, folder: Path, depth: int) -> Iterator[Path]:
    yield from (path for path in scan.videos(folder) if not path.is_dir() or _is_clip(path))
    folders, _ = scan.entries(folder)
    for inner in folders:
        clip = scan.is_frames(inner) and _is_clip(inner)
        if depth < _DEEPEST and not inner.is_symlink() and not clip:
            yield from _below(scan, inner, depth + 1)


def _is_clip(folder: Path) -> bool:
    """Whether a folder is a clip, by its frames. Beside videos an image is a cover or a thumbnail, not a frame."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    videos = any(Path(name).suffix.lower() in VIDEO_SUFFIXES for name in names)
    return not videos and any(is_frame_name(name) for name in names)
