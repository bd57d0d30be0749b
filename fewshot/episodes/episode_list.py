"""Episode lists on disk: plain text of video keys, named by their sha256, readable for any store of the videos.

A file of JSON lines. The first says what the list is; each of the others is one episode, `[ways, queries]`: for each
way the keys of its support videos, and for each query its key and its way.

    {"format": "mastaf-episodes", "version": 1, "sha256": "1f0a...", "episodes": 10000, "way": 5, ...}
    [[["walk/a.mp4"], ["jump/c.mp4"], ...], [["jump/d.mp4", 1]]]

`sha256` is the digest of the episode lines, which depend on nothing but the keys: it is the list's name in result
records. `header_sha256` covers the first line. A file that was edited by hand fails one of the two.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.atomic import write_bytes
from ...cache.checks import parse_json
from ..errors import FewShotError
from .episode import EpisodeRows

FORMAT, VERSION = "mastaf-episodes", 1
_REMEDY = "write the list anew, or restore the file as it was"


@dataclass(frozen=True, eq=False)
class EpisodeList:
    """Episodes by key. keys: each video named once; rows: positions in `keys`, where `classes` is -1 (a list knows
    keys, not classes); header: the file's first line."""

    keys: tuple[str, ...]
    rows: EpisodeRows
    header: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Digest of the episode lines."""
        return self.header["sha256"]

    def __len__(self) -> int:
        return len(self.rows)

    def rows_for(self, keys: Sequence[str], classes: Sequence[str]) -> EpisodeRows:
        """The episodes as positions in `keys`, one class each; ways numbered among the sorted classes.

        Raises FewShotError when keys are lacking, or when a way mixes classes there.
        """
        position = {key: row for row, key in enumerate(keys)}
        lacking = [key for key in self.keys if key not in position]
        if lacking:
            shown = ", ".join(f"'{key}'" for key in lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            what = f"the episode list names {len(lacking)} of its {len(self.keys)} videos that the split lacks: {shown}"
            raise FewShotError(f"{what}; extract them, or use a list made for these videos")
        found = [position[key] for key in self.keys]
        number = {name: i for i, name in enumerate(sorted(set(classes)))}
        class_of = np.array([number[classes[row]] for row in found], dtype=np.int64)  # [n_keys]
        of_way = class_of[self.rows.support]  # [b, way, shot]
        ways = of_way[..., 0]  # [b, way]
        of_query = np.take_along_axis(ways, self.rows.labels, axis=1)  # [b, q]
        mixed = (of_way != ways[..., None]).any((1, 2)) | (class_of[self.rows.query] != of_query).any(1)  # [b]
        mixed |= (np.diff(np.sort(ways, axis=1), axis=1) == 0).any(1)
        if mixed.any():
            first = int(mixed.argmax())
            raise FewShotError(
                f"episode {first} of the list must have one class a way and another for each way, but by this store's "
                "classes it has not; use a list made for these classes"
            )
        places = np.array(found, dtype=np.int64)  # [n_keys]
        return EpisodeRows(places[self.rows.support], places[self.rows.query], self.rows.labels, ways)


def digest_of(rows: EpisodeRows, keys: Sequence[str]) -> str:
    """The sha256 that a list of these episodes has on disk; nothing is written."""
    return hashlib.sha256(_episode_lines(rows, keys)).hexdigest()


def write_episode_list(path: Path, rows: EpisodeRows, keys: Sequence[str], **notes: Any) -> str:
    """Write the episodes (positions in `keys`) to `path`, whole or not at all; returns the list's sha256.

    notes: what the first line should say besides (split, query_mode, list_seed, ...), fit for JSON. The bytes
    depend on the arguments alone.
    """
    lines = _episode_lines(rows, keys)
    b, way, shot = rows.support.shape
    sizes = {"episodes": b, "way": way, "shot": shot, "queries": rows.query.shape[1]}
    digest = hashlib.sha256(lines).hexdigest()
    header = {"format": FORMAT, "version": VERSION, "sha256": digest, **sizes, **dict(sorted(notes.items()))}
    header["header_sha256"] = _header_digest(header)
    write_bytes(Path(path), _compact(header).encode() + b"\n" + lines)
    return digest


def read_episode_list(path: Path) -> EpisodeList:
    """Read and check a list. Raises FewShotError when it is no list, was edited, or breaks its own rules."""
    path = Path(path)
    try:
        first, _, lines = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise FewShotError(f"episode list '{path}' does not exist") from None
    header = _read_header(path, first)
    if hashlib.sha256(lines).hexdigest() != header["sha256"]:
        raise FewShotError(f"episode list '{path}' does not match the sha256 in its first line; {_REMEDY}")
    try:
        episodes = [parse_json(line, "it") for line in lines.splitlines()]
        listed, rows = _number_keys(episodes)
    except (ValueError, TypeError, KeyError) as error:
        raise FewShotError(f"episode list '{path}' has a malformed episode line ({error}); {_REMEDY}") from None
    _check_rows(path, header, rows)
    return EpisodeList(listed, rows, header)


def _episode_lines(rows: EpisodeRows, keys: Sequence[str]) -> bytes:
    quoted = [json.dumps(key, ensure_ascii=False) for key in keys]
    lines = []
    for ways, queries, labels in zip(rows.support.tolist(), rows.query.tolist(), rows.labels.tolist(), strict=True):
        support = ", ".join("[" + ", ".join([quoted[row] for row in way]) + "]" for way in ways)
        asked = ", ".join(f"[{quoted[row]}, {label}]" for row, label in zip(queries, labels, strict=True))
        lines.append(f"[[{support}], [{asked}]]\n")
    return "".join(lines).encode()


def _compact(header: dict[str, Any]) -> str:
    return json.dumps(header, ensure_ascii=False, allow_nan=False)


def _header_digest(header: dict[str, Any]) -> str:
    covered = {name: value for name, value in header.items() if name != "header_sha256"}
    return hashlib.sha256(_compact(covered).encode()).hexdigest()


def _read_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = parse_json(line, "the first line")
        digest = _header_digest(header) if isinstance(header, dict) else ""
    except ValueError:  # not JSON, or not Unicode
        header, digest = None, ""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FewShotError(f"'{path}' is not an episode list: its first line must be JSON with format '{FORMAT}'")
    if header.get("version") != VERSION:
        raise FewShotError(
            f"episode list '{path}' has version {header.get('version')}, but this program reads {VERSION}"
        )
    if header.get("header_sha256") != digest or not isinstance(header.get("sha256"), str):
        raise FewShotError(f"episode list '{path}' was edited in its first line; {_REMEDY}")
    return header


def _number_keys(episodes: list[Any]) -> tuple[tuple[str, ...], EpisodeRows]:
    """Keys in the order of first appearance, and rows into them; KeyError, TypeError, ValueError on a bad shape."""
    number: dict[str, int] = {}
    support = [[[number.setdefault(key, len(number)) for key in way] for way in ways] for ways, _ in episodes]
    query = [[number.setdefault(key, len(number)) for key, _ in queries] for _, queries in episodes]
    labels = [[label for _, label in queries] for _, queries in episodes]
    arrays = [np.array(part) for part in (support, query, labels)]
    if [array.ndim for array in arrays] != [3, 2, 2] or not all(array.size for array in arrays):
        raise ValueError("episodes must be of one size, with a support video a way and a query at least")
    if arrays[2].dtype != np.int64:
        raise ValueError("the way of a query must be a whole number")
    classes = np.full(arrays[0].shape[:2], -1, dtype=np.int64)  # [b, way]
    return tuple(number), EpisodeRows(arrays[0], arrays[1], arrays[2], classes)


def _check_rows(path: Path, header: dict[str, Any], rows: EpisodeRows) -> None:
    b, way, shot = rows.support.shape
    sizes = {"episodes": b, "way": way, "shot": shot, "queries": rows.query.shape[1]}
    for name, size in sizes.items():
        if header.get(name) != size:
            raise FewShotError(f"episode list '{path}' says {name} = {header.get(name)}, but has {size}; {_REMEDY}")
    if rows.labels.min() < 0 or rows.labels.max() >= way:
        raise FewShotError(f"episode list '{path}' has a query whose way is not from 0 to {way - 1}; {_REMEDY}")
    videos = np.sort(np.concatenate([rows.support.reshape(b, -1), rows.query], axis=1), axis=1)  # [b, way*shot + q]
    twice = (np.diff(videos, axis=1) == 0).any(1)  # [b]
    if twice.any():
        raise FewShotError(f"episode {int(twice.argmax())} of list '{path}' has a video twice; {_REMEDY}")
