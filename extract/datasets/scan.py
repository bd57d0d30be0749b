"""Walking a data set's folders: what is a video, what is a stray file, and what would leave the root."""

import os
from pathlib import Path

from .links import Links
from .naming import VIDEO_SUFFIXES, is_frame_name, natural, some

STRAY = "stray files"
LINKS = "links that leave the root"
NAMES = "names that are not UTF-8"
EMPTY = "class folders without videos"
NESTED = "folders inside a class that hold no frames"


class FolderScan:
    """Lists folders under a root, in natural order, and keeps count of what it leaves out.

    A link may point anywhere inside the root; one that leaves it is refused unless `follow_links`. The root itself
    may be a link. No link is followed twice on the way down, for the depth of a data set is fixed.
    """

    def __init__(self, root: Path, *, follow_links: bool = False) -> None:
        self.root = Path(root).absolute()
        self.links = Links(self.root, follow_links)
        self._ignored: dict[str, set[str]] = {}

    def ignore(self, reason: str, path: Path) -> None:
        """Note that `path` is left out; a path counts once per reason."""
        self._ignored.setdefault(reason, set()).add(self.relative(path))

    @property
    def ignored(self) -> dict[str, int]:
        """Number of paths left out, by reason."""
        return {reason: len(paths) for reason, paths in sorted(self._ignored.items())}

    def notes(self) -> tuple[str, ...]:
        """One line for each reason but stray files, with the first names."""
        return tuple(
            f"ignored {reason}: {len(paths)} ({some(sorted(paths, key=natural))})"
            for reason, paths in sorted(self._ignored.items())
            if reason != STRAY
        )

    def counts(self) -> str:
        """What was left out, for a message: "stray files (2), videos outside a class folder (8)"."""
        return ", ".join(f"{reason} ({count})" for reason, count in self.ignored.items())

    def relative(self, path: Path) -> str:
        """The path from the root, with `/`; unreadable bytes are shown as `?`."""
        return path.relative_to(self.root).as_posix().encode("utf-8", "replace").decode("utf-8")

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """(folders, files) in `folder`; hidden ones, archives' leftovers and links that leave the root left out."""
        folders, files = [], []
        with os.scandir(folder) as listing:
            for entry in listing:
                path = Path(entry.path)
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    self.ignore(STRAY, path)
                elif not _is_utf8(entry.name):
                    self.ignore(NAMES, path)
                elif entry.is_symlink() and not self.may_be_read(path):
                    self.ignore(LINKS, path)
                else:
                    (folders if entry.is_dir() else files).append(path)
        return _sorted(folders), _sorted(files)

    def is_frames(self, folder: Path) -> bool:
        """Whether the folder is a video: it holds images directly, none of them a link that leaves the root."""
        found = False
        with os.scandir(folder) as listing:
            for entry in listing:
                if is_frame_name(entry.name):
                    if entry.is_symlink() and not self.may_be_read(Path(entry.path)):
                        self.ignore(LINKS, folder)
                        return False
                    found = True
        return found

    def may_be_read(self, path: Path) -> bool:
        """Whether the path's links may be followed. What is missing inside the root may be listed and is missed later;
        what runs in a circle may not."""
        try:
            path.stat()
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return self.links.allow(path)

    def videos(self, folder: Path) -> list[Path]:
        """The videos in `folder`: files with a video's extension and folders of frames. The rest is ignored."""
        folders, files = self.entries(folder)
        found = []
        for path in folders:
            if self.is_frames(path):
                found.append(path)
            else:
                self.ignore(NESTED, path)
        for path in files:
            if path.suffix.lower() in VIDEO_SUFFIXES:
                found.append(path)
            else:
                self.ignore(STRAY, path)
        return _sorted(found)


def _sorted(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: natural(path.name))


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
