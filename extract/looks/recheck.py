"""`--recheck`: rows of a finished store made again, and compared with what is stored. Nothing is written."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cache.errors import CacheError
from ...cache.index import DONE, FAILED
from ...cache.packed import Packed
from ...cache.place import StorePath
from ...cache.store import Store, open_store
from ..backbones.base import Backbone
from ..datasets.links import Links
from ..datasets.naming import some
from ..datasets.videos import VideoSet
from ..decoding.decode import TIMEOUT_S
from ..engine.meter import Meter
from ..engine.opening import require_same_labels
from ..engine.pipeline import Pipeline
from ..engine.shard_work import forward_threads
from ..engine.sink import Rehearsal
from ..engine.surroundings import look_around
from ..engine.tasks import make_tasks
from ..errors import ExtractError
from ..machines.devices import device_name, resolve_devices
from ..provenance import provenance
from ..recipe import make_spec

LEAST_COSINE = 0.999  # what design and store promise between devices


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row made again. reason: '' or why it could not be; max_error, cosine: of its worst view; same_bits."""

    row: int
    key: str
    reason: str
    max_error: float
    cosine: float
    same_bits: bool

    @property
    def off(self) -> bool:
        """Whether it is not the row that is stored, within what another device may change."""
        return bool(self.reason) or self.cosine < LEAST_COSINE


@dataclass(frozen=True, kw_only=True)
class Recheck:
    """store: its path; done: rows of it to draw from; rows: those drawn, rising; changed: what is not as it was when
    the store was made: name -> (then, now)."""

    store: str
    done: int
    rows: tuple[Row, ...]
    changed: dict[str, tuple[str, str]]

    @property
    def compared(self) -> list[Row]:
        """Rows that could be made again."""
        return [row for row in self.rows if not row.reason]

    @property
    def off(self) -> list[Row]:
        """Rows that are not what is stored."""
        return [row for row in self.rows if row.off]

    @property
    def least_cosine(self) -> float:
        return min((row.cosine for row in self.compared), default=1.0)

    @property
    def median_cosine(self) -> float:
        return float(np.median([row.cosine for row in self.compared])) if self.compared else 1.0

    @property
    def max_error(self) -> float:
        return max((row.max_error for row in self.compared), default=0.0)

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self) | {"max_error": self.max_error, "same_bits": sum(r.same_bits for r in self.compared)}
        return facts | {"least_cosine": self.least_cosine, "median_cosine": self.median_cosine, "off": len(self.off)}


def recheck_store(
    videos: VideoSet,
    backbone: Backbone,
    *,
    out: StorePath,
    count: int,
    seed: int = 0,
    views: Sequence[str] = ("plain",),
    sampling: str = "even",
    precision: str = "auto",
    store_dtype: str = "float16",
    device: str = "auto",
    workers: int | None = None,
    queue: int | None = None,
    timeout_s: float = TIMEOUT_S,
    allow_flip: bool = False,
    progress: bool = True,
) -> Recheck:
    """Extract `count` random done rows of the store `out` again, drawn by `seed`, and compare.

    A row's place in its batch is what it was, and its companions are zeros: on the same kind of device, with the same
    versions, the bits are the same. A video that is gone or no longer decodes is a row with a reason. Raises CacheError
    where nothing is done, SpecMismatchError when the store is of other cubes (other weights, say), ExtractError when
    classes or splits differ, or most videos are gone: another data set or root.
    """
    target = resolve_devices(device)[0]
    here = look_around(str(target), precision, backbone.frames)
    made = {"views": views, "sampling": sampling, "store_dtype": store_dtype}
    spec = make_spec(backbone, **made, precision=here.precision)
    about = provenance(videos, backbone, device=device_name(target), command="", allow_flip=allow_flip)
    store = open_store(out)
    store.spec.require_equal(spec, here=f"store {out}", there="this run")
    require_same_labels(store, videos.split_scheme, videos.index)
    done = np.flatnonzero(store.states() == DONE)
    if not len(done):
        raise CacheError(f"{out} has no cube yet, and nothing to compare; finish the extraction first")
    random = np.random.Generator(np.random.Philox(key=seed))
    rows = sorted(random.permutation(done)[:count].tolist())
    watched = _Comparison(store, set(rows))
    sink = Rehearsal(store.header, store.index, watched)
    # A video that is gone from the data set is looked for where it was, so that it is named.
    paths = dict(zip(videos.index.keys, videos.index.paths, strict=True))
    gone = [key for row in rows if (key := store.index.keys[row]) not in paths]
    if 2 * len(gone) > len(rows):
        raise ExtractError(
            f"most rows drawn of {out} ({len(gone)} of {len(rows)}) are of no video in {videos.root}, such as "
            f"{some(gone, 3)}; check --dataset and --root"
        )
    places = [paths.get(k, old) for k, old in zip(store.index.keys, store.index.paths, strict=True)]
    tasks = list(make_tasks([sink], [rows], places))
    with forward_threads(store.header.threads), Meter(len(rows), shown=progress) as meter:
        pipeline = Pipeline(
            [sink],
            [backbone],
            root=videos.root,
            device=target,
            workers=workers,
            queue=queue,
            timeout_s=timeout_s,
            links=Links(videos.root, videos.follow_links),
        )
        with closing(pipeline.run(tasks, tell=meter.tell)) as finished:
            for _ in finished:
                pass
    return Recheck(store=str(out), done=len(done), rows=tuple(watched.found), changed=_changed(store, about))


class _Comparison:
    """Compares each shard that is made again with what the store has of it."""

    def __init__(self, store: Store, wanted: set[int]) -> None:
        self._store, self._wanted = store, wanted
        self.found: list[Row] = []

    def __call__(self, rows: range, cubes: Packed, states: Sequence[int], reasons: Mapping[int, str]) -> None:
        """Take the cubes [r, views, c, t, h, w] of `rows`."""
        for slot, (row, state) in enumerate(zip(rows, states, strict=True)):
            if row in self._wanted:
                reason = reasons[row] if state == FAILED else ""
                views = range(len(self._store.spec.views))
                stored = np.stack([self._store.read([row], view=view)[0] for view in views])  # [views, c, t, h, w]
                self.found.append(_compare(row, self._store.index.keys[row], reason, stored, cubes[slot].values()))


def cosines(one: np.ndarray, other: np.ndarray) -> NDArray[np.float64]:
    """Cosine of each two cubes [views, c, t, h, w]: [views]."""
    a, b = (cube.astype(np.float64).reshape(len(cube), -1) for cube in (one, other))  # [views, values]
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)  # [views]
    # A cube of zeros has no direction; it is right if both are that.
    return np.where(norms > 0, (a * b).sum(1) / np.maximum(norms, np.finfo(float).tiny), (a == b).all(1))


def _compare(row: int, key: str, reason: str, old: NDArray[np.float16], new: NDArray[np.float16]) -> Row:
    """old, new: [views, c, t, h, w]; new is zeros where there is a reason."""
    return Row(
        row=row,
        key=key,
        reason=reason,
        max_error=0.0 if reason else float(np.abs(old.astype(np.float64) - new.astype(np.float64)).max()),
        cosine=0.0 if reason else float(cosines(old, new).min()),
        same_bits=not reason and old.tobytes() == new.tobytes(),
    )


def _changed(store: Store, now: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Versions, and devices of the shards, that differ: name -> (then, now)."""
    then = store.header.provenance.get("versions")
    versions = then if isinstance(then, dict) else {}
    pairs = {name: (str(versions.get(name, "unknown")), str(value)) for name, value in now["versions"].items()}
    devices = sorted({record.device for record in store.records()})
    pairs["device"] = (", ".join(devices), now["device"])
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}
