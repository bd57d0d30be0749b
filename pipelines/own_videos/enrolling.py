"""What `mastaf enrol` does: make or change a file of classes, and say what it is worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cache import console
from ...cache.text import shown
from ...fewshot.statistics.temperature import Calibration
from ..errors import PipelineError
from .classifier import FewShotClassifier
from .enrolment import Enrolment
from .writable import require_writable

_MOST_NAMED = 20
# People try it on real videos first, and would take its answers for what few examples can give.
_TINY = "r3d-tiny knows synthetic motions alone: for real videos name another with --backbone (docs/backbones.md)"


def enrol(support: Path, out: Path, **settings: Any) -> dict[str, Any]:
    """Enrol the classes of a folder into `out`, taking over what is there of the same clips. Returns what `--json`
    holds."""
    require_writable(out)
    before = FewShotClassifier.load(out) if out.exists() else None
    made = FewShotClassifier.enrol(support, reuse=before, progress=True, **settings)
    return _finish(made, out)


def change(
    out: Path, *, add: Path | None, remove: Sequence[str], rename: Sequence[str], **settings: Any
) -> dict[str, Any]:
    """Change the classes of a file: what goes, then names (OLD=NEW), then what comes. Returns what `--json` holds."""
    if not out.is_file():
        raise PipelineError(f"classes {out} must be a file that `mastaf enrol` wrote; make it with --support DIR")
    require_writable(out)
    made = FewShotClassifier.load(out, progress=True, **settings)
    made.change(remove=remove, rename=[_pair(text, made.enrolment.classes) for text in rename], add=add)
    return _finish(made, out)


def _pair(text: str, classes: Sequence[str]) -> tuple[str, str]:
    """`OLD=NEW` -> (OLD, NEW). Names may have a `=` themselves, so it is the first that leaves a class before it."""
    parts = text.split("=")
    pairs = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(1, len(parts))]
    return next((pair for pair in pairs if pair[0] in classes), pairs[0])


def _finish(made: FewShotClassifier, out: Path) -> dict[str, Any]:
    made.save(out)
    here = made.enrolment
    for line in [*made.notes_, *(f"failed: {path}: {reason}" for path, reason in made.failures_), *lines_of(here)]:
        console.say(line)
    console.say(f"written: {out} ({out.stat().st_size / 1e6:.2g} MB)")
    return {
        "out": str(out),
        "classes": here.counts,
        "recipe": here.spec.recipe,
        "method": here.head.method,
        "run": here.head.run,
        "calibration": here.calibration and here.calibration.to_json(),
        "failed": [{"path": path, "reason": reason} for path, reason in made.failures_],
        "notes": made.notes_,
    }


def lines_of(enrolment: Enrolment) -> list[str]:
    """What is enrolled, and what its answers are worth."""
    counts = enrolment.counts
    names = [f"{shown(name)} {count}" for name, count in counts.items()]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    head = enrolment.head
    trained = f", trained in {head.run}" if head.run else ""
    variant = head.keywords.get("variant")
    return [
        f"enrolled: {len(counts)} classes, {len(enrolment.examples)} clips ({', '.join(names[:_MOST_NAMED])}{more})",
        f"head: {head.method}{f' ({variant})' if variant else ''}{trained}; backbone: {enrolment.spec.backbone}",
        *([_TINY] if (enrolment.spec.backbone, enrolment.network.weights) == ("r3d-tiny", "") else []),
        *_meaning(enrolment.calibration, counts),
    ]


def _meaning(found: Calibration | None, counts: dict[str, int]) -> list[str]:
    if found is None:
        single = [f"'{shown(name)}'" for name, count in counts.items() if count < 2]
        more = f" and {len(single) - 3} more" if len(single) > 3 else ""
        return [
            f"not calibrated: one clip alone of {', '.join(single[:3])}{more}; answers will have scores, no "
            "probabilities, and none is rejected (give two clips or more of each class, or --calibrate STORE)"
        ]
    wrong, guessed = found.answers - found.right, found.answers / found.way
    lines = [
        f"calibrated by {found.source}: {found.right} of {found.answers} answers right (by guessing: {guessed:.0f})",
        f"below a score of {found.threshold:.2f} an answer is rejected: so were {found.false_rejects} of {found.right} "
        f"right ones (false rejects: {_percent(found.false_rejects, found.right)}) and "
        f"{wrong - found.wrong_accepted} of {wrong} wrong ones",
        "the same answers set that threshold: of right answers to new clips expect "
        f"{100 * found.expected_false_rejects:.0f} % to be rejected",
    ]
    if found.right - guessed < (found.answers - guessed) / 3:
        lines.append("that is hardly better than guessing: try another --backbone (docs/backbones.md), or more clips")
    if found.way < len(counts):
        lines.append(f"the calibration saw {found.way} classes at a time, and there are {len(counts)}: too sure")
    refused = found.strangers - found.strangers_accepted
    return [
        *lines,
        f"clips of no class (each in turn, its own class taken away): {refused} of {found.strangers} rejected",
    ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "of none"
