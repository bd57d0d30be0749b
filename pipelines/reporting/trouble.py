"""The mistakes of one head as the page has them: frames of the query, of the nearest supports, and attention."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...cache.errors import CacheError
from ...cache.store import Store
from ...extract.errors import ExtractError
from ...fewshot.errors import FewShotError
from ...fewshot.methods.base import Method
from ...fewshot.records import record_of
from ..errors import PipelineError
from ..explaining.overlay import lay_over, scale_of
from .blocks import Block, BlockRow
from .looks import Look, load_method, look_at
from .mistakes import Episodes, Mistake, Nearest, episodes_of, nearest_supports, surest_mistakes
from .page import markup, render
from .pictures import Frames, Videos, strips
from .views import Room

MOST_PICTURES = 4_000_000  # characters of all parts with pictures


@dataclass(eq=False)
class Picture:
    """words: what it shows; frames: of it, None where there are none; data: its address, once it has one."""

    words: str
    frames: Frames | None
    data: str = ""


@dataclass(eq=False)
class Shown:
    """A mistake as the page has it. key: of the query's video, or its row."""

    mistake: Mistake
    key: str
    pictures: list[Picture] = field(default_factory=list)


def mistakes_of(
    block: Block,
    store: Store | None,
    videos: Videos | None,
    *,
    lists: Mapping[str, Path],
    count: int,
    room: Room,
) -> Any:
    """Markup of the surest mistakes of one head of a block. videos: of the store, None where no frames are wanted;
    lists: see `episodes_of`."""
    row = chosen_row(block)
    picked = surest_mistakes(row.predictions, count)
    if not picked:
        return ""
    notes: list[str] = []
    shown = [Shown(one, _key(store, one.row)) for one in picked]
    if store is None:
        notes.append("The store was not found, so there are no frames and no supports; give it with --features")
    else:
        _fill(shown, row, store, videos, lists, notes)
    text = render(
        "mistakes.html",
        title=row.title,
        wrong=f"{int((~row.predictions.correct).sum()):,}",
        total=f"{len(row.predictions.label):,}",
        shot=f"{row.record['shot']} shot{'s' if row.record['shot'] > 1 else ''}",
        notes=notes,
        shown=shown,
    )
    return markup(room.take(text))


def chosen_row(block: Block) -> BlockRow:
    """The head whose mistakes are shown: the base, or where that has no run, the first that has."""
    base = next(row for row in block.rows if row.title == block.base)
    return base if base.run else next((row for row in block.rows if row.run), base)


def _key(store: Store | None, row: int) -> str:
    return store.index.keys[row] if store is not None and row < len(store.index) else f"row {row}"


def _fill(
    shown: list[Shown],
    row: BlockRow,
    store: Store,
    videos: Videos | None,
    lists: Mapping[str, Path],
    notes: list[str],
) -> None:
    """Give the mistakes their pictures, and the notes what is lacking."""
    scored = row.compared.scored[0]
    if max(one.mistake.row for one in shown) >= len(store.index):
        notes.append("The predictions name videos that the store has not")
        return
    episodes = episodes_of(record_of(scored.record, scored.path), row.predictions, store, lists)
    method = load_method(row.run, store) if row.run is not None else "no attention: this head has no run"
    for problem in (episodes, method):
        if isinstance(problem, str):
            notes.append(problem[0].upper() + problem[1:])
    for one in shown:
        _fill_one(one, row, videos, episodes, method, notes)
    coded = [(picture, picture.frames) for one in shown for picture in one.pictures if picture.frames is not None]
    try:
        for (picture, _), data in zip(coded, strips([frames for _, frames in coded]), strict=True):
            picture.data = data
    except ExtractError as error:
        _say(notes, f"no pictures: {error}")


def _fill_one(
    one: Shown, row: BlockRow, videos: Videos | None, episodes: Episodes | str, method: Method | str, notes: list[str]
) -> None:
    mistake = one.mistake
    query = _frames(videos, mistake.row, notes)
    one.pictures.append(Picture("The query", query))
    if isinstance(episodes, str):
        return
    try:
        nearest = nearest_supports(episodes, mistake)
    except FewShotError as error:  # a cube that holds no numbers
        notes.append(f"No supports: {error}")
        return
    supports = [_frames(videos, near.row, notes) for near in nearest]
    for near, frames in zip(nearest, supports, strict=True):
        one.pictures.append(Picture(_words(mistake, near), frames))
    if isinstance(method, str) or query is None:
        return
    ways = [mistake.answer, mistake.label]
    try:
        looks = look_at(method, episodes, mistake.place, row.predictions.logits[mistake.place], ways)
        if isinstance(looks, str):
            _say(notes, looks)
        else:
            several = row.record["shot"] > 1
            one.pictures += _overlays(mistake, looks, query, supports, several_shots=several)
    except (PipelineError, CacheError, FewShotError, ExtractError) as error:
        _say(notes, f"no attention: {error}")


def _frames(videos: Videos | None, row: int, notes: list[str]) -> Frames | None:
    """The clip of a row; why there is none goes to the notes."""
    found = "no picture: not asked for" if videos is None else videos.clip(row)
    if not isinstance(found, str):
        return found
    _say(notes, found)
    return None


def _say(notes: list[str], words: str) -> None:
    told = words[0].upper() + words[1:]
    if told not in notes:
        notes.append(told)


def _words(mistake: Mistake, near: Nearest) -> str:
    which = "answered" if near.way == mistake.answer else "true"
    return f"Nearest support of the {which} class {mistake.ways[near.way][0]}: {near.key}, cosine {near.cosine:.3f}"


def _overlays(
    mistake: Mistake, looks: list[Look], query: Frames, supports: list[Frames | None], *, several_shots: bool
) -> list[Picture]:
    """Attention over the query and over the nearest support of each way, in one scale."""
    wanted = []
    for look, support, way in zip(looks, supports, (mistake.answer, mistake.label), strict=True):
        name = mistake.ways[way][0]
        if look.query is not None:
            wanted.append((f"Attention of the query to {name}", query, look.query))
        if look.support is not None and support is not None:
            wanted.append((f"Attention of {name} to the query", support, look.support))
    if not wanted:
        return []
    scale, told = scale_of(*(map_ for _, _, map_ in wanted))
    names = ", ".join(sorted({name for look in looks for name in look.names}))
    found = [
        Picture(title, lay_over(frames, map_, scale)) for (title, frames, _), map_ in zip(wanted, told, strict=True)
    ]
    words = f"Colours: {scale.words}, from dark ({scale.low:.2f}) to bright ({scale.high:.2f}); maps {names}"
    several = "; a class is the mean of its shots, shown on one of them" if several_shots else ""
    return [*found, Picture(words + several, None)]
