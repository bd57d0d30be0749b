"""Names of runs on the hub: `hf:USER/REPO`, or `hf:USER/REPO@REVISION`."""

import re
from dataclasses import dataclass

from ..errors import FewShotError

SCHEME = "hf:"
_REPO = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """repo: `USER/REPO`; revision: branch, tag or commit, None for the newest."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def parse_repo(text: str) -> str:
    """`USER/REPO`. Raises FewShotError for anything else."""
    if not _REPO.fullmatch(text):
        raise FewShotError(f"repository ('{text}') must be USER/REPO, such as me/mastaf-hmdb51")
    return text


def parse_name(text: str) -> HubName:
    """The name in `hf:USER/REPO[@REVISION]`. Raises FewShotError for anything else."""
    repo, at, revision = text.removeprefix(SCHEME).partition("@")
    if at and not _REVISION.fullmatch(revision):
        raise FewShotError(f"revision ('{revision}') of {text} must be a branch, tag or commit of the repository")
    return HubName(parse_repo(repo), revision or None)
