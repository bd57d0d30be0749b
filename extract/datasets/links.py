"""Where symbolic links among videos may lead: a data set from a stranger must not show other files of this machine."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Links:
    """root: the folder that no link may leave, itself perhaps a link; follow: links may lead anywhere."""

    root: Path
    follow: bool = False

    @cached_property
    def _inside(self) -> Path:
        return self.root.resolve()

    def allow(self, path: Path) -> bool:
        """Whether the path, links followed, may be read; never where links run in a circle."""
        try:
            return path.resolve(strict=False).is_relative_to(self._inside) or (self.follow and path.exists())
        except (OSError, RuntimeError):
            return False
