"""What a reader of the paper's tables must not overlook of a record of ours, in few words each."""

from ...cache.checks import brief
from ...cache.label_overlap import NEAR, NONE, SAME
from ..records import ResultRecord
from .paper_cubes import paper_cubes
from .published import TEST_SPLITS


def stamps_of(record: ResultRecord, *, any_variant: bool) -> list[str]:
    """any_variant: the table's row is of no variant in particular, so that a record's own is told."""
    stamps = ["selected on test"] if record.selected_on == "test" else []
    stamps += ["adapter"] if record.adapter else []
    stamps += ["bf16"] if record.precision != "fp32" else []
    stamps += [f"preset {word(record.preset)}"] if record.preset not in (None, "code") else []
    stamps += [word(str(record.variant))] if any_variant and record.variant not in (None, "plain") else []
    return [*stamps, *_of_clips(record), *_of_videos(record), *_of_weights(record)]


def _of_clips(record: ResultRecord) -> list[str]:
    cube = paper_cubes(record.method, record.backbone)[0]
    frames = [f"{record.frames} frames"] if record.frames != cube.frames else []
    return [*frames, *([f"size {record.size}"] if record.size != cube.size else [])]


def _of_videos(record: ResultRecord) -> list[str]:
    """How much of the published test split was scored."""
    classes, videos = TEST_SPLITS[record.dataset]
    used = record.coverage["videos"]
    stamps = [f"{record.classes} of {classes} classes"] if record.classes != classes else []
    stamps += [f"{used} of {videos} videos"] if used != videos else []
    return stamps + [f"{record.coverage[why]} {why}" for why in ("failed", "missing") if record.coverage[why]]


def _of_weights(record: ResultRecord) -> list[str]:
    overlap = record.pretraining["overlap"]
    if overlap is None:
        return []
    known = len(overlap[SAME]) + len(overlap[NEAR])
    return [f"pretraining saw {known} of {known + len(overlap[NONE])} classes"] if known else []


def word(text: str) -> str:
    """A word of a record in a table, which it must not break."""
    return brief(text, 20).replace("|", "/")
