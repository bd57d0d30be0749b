"""Clips of one's own explained: classes from a folder, and queries that were never in a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cache import console
from ...cache.spec import FeatureSpec
from ...cache.text import shown
from ...extract.decoding.decode import TIMEOUT_S, decode_clip
from ...extract.decoding.pixels import pixel_rule_of
from ...extract.errors import VideoError
from ...fewshot.head import variant_name
from ...fewshot.methods.registry import naming_plugin
from ..errors import PipelineError
from ..own_videos.answering import Answering
from ..own_videos.classifier import FewShotClassifier
from ..own_videos.enrolment import Enrolment
from ..own_videos.support import find_support
from .attention import UNTRAINED, UNTRAINED_WORDS, no_maps, require_maps
from .explanation import Explanation, Seen


def explain_clips(
    support: Path, queries: Sequence[Path], *, follow_links: bool = False, **settings: Any
) -> tuple[list[Explanation], dict[str, Any], list[tuple[str, str]]]:
    """(an explanation of each query, facts, failures): queries against the classes of a folder CLASS/VIDEO.

    settings: of `FewShotClassifier`; without checkpoint and method the head is MASTAF without its meta-learner.
    failures: (clip, reason) of examples that could not be used. Raises PipelineError for a query that cannot be read.
    """
    settings = with_head(settings)
    classifier = FewShotClassifier.enrol(support, follow_links=follow_links, **settings)
    for note in classifier.notes_:
        console.say(f"note: {note}")
    answering, enrolment = classifier.answering, classifier.enrolment
    asked = [see(query, enrolment.spec) for query in queries]
    supports = _supports(support, enrolment, follow_links)
    shown = [explain_query(answering, seen, supports) for seen in asked]
    facts = {"recipe": enrolment.spec.recipe, "method": enrolment.head.method, "run": enrolment.head.run or None}
    return shown, facts, classifier.failures_


def with_head(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that name a head with maps; PipelineError where they name one without."""
    if settings.get("method") is not None:
        require_maps(settings["method"])
    if any(settings.get(name) for name in ("checkpoint", "method", "method_keywords")):
        return settings
    console.say(UNTRAINED_WORDS)
    return {**settings, "method": "mastaf", "method_keywords": UNTRAINED}


def see(path: Path, spec: FeatureSpec, *, name: str = "", timeout_s: float = TIMEOUT_S, links: Any = None) -> Seen:
    """A clip as the backbone of a recipe sees it. PipelineError where it cannot be read."""
    try:
        clip = decode_clip(
            path,
            frames=spec.frames,
            rule=pixel_rule_of(spec),
            sampling=spec.sampling,
            key=path.name,
            timeout_s=timeout_s,
            links=links,
        )
    except VideoError as error:
        raise PipelineError(f"{name or path}: {error}") from error
    return Seen(name or str(path), clip.pixels, clip.note)


def explain_query(answering: Answering, seen: Seen, supports: Sequence[Sequence[Seen]]) -> Explanation:
    """One query's scores and maps. supports: of each class its examples, as far as they are shown.

    PipelineError for a head without maps, or a clip that gives no cube.
    """
    enrolment = answering.enrolment
    cube, reason = answering.network.cube(seen.frames)
    if reason:
        raise PipelineError(f"{seen.name}: {reason}")
    head = enrolment.head
    with naming_plugin(head.method, "explaining"):
        found = answering.scored(cube)
        maps = answering.scorer.attention(cube)
    if not maps:
        raise no_maps(head.method, answering.scorer.method)
    return Explanation(
        head=head_words_of(enrolment),
        title=f"{len(enrolment.classes)} classes of one's own",
        classes=[shown(name) for name in enrolment.classes],
        supports=supports,
        queries=[seen],
        labels=[None],
        logits=found.logits[None],
        maps=maps,
        calibrated=None if found.probabilities is None else found.probabilities[None],
        verdicts=["nearest, but rejected" if found.rejected else "predicted"],
    )


def _supports(folder: Path, enrolment: Enrolment, follow_links: bool) -> list[list[Seen]]:
    """The examples of each class, decoded again to be shown."""
    paths = {clip.example.sha256: clip for clip in find_support(folder, follow_links=follow_links).clips}
    found: list[list[Seen]] = [[] for _ in enrolment.classes]
    for example, way in zip(enrolment.examples, enrolment.ways, strict=True):
        clip = paths.get(example.sha256)
        if clip is None:
            raise PipelineError(
                f"'{shown(example.name)}' was changed while it was read; run again when nothing writes it"
            )
        found[way].append(see(clip.path, enrolment.spec, name=example.name, links=clip.links))
    return found


def head_words_of(enrolment: Enrolment) -> str:
    """The head in words, and its run."""
    head = enrolment.head
    variant = variant_name(head.keywords)
    words = f"{head.method} ({variant})" if variant else head.method
    return f"{words}, trained in {Path(head.run).name}" if head.run else words
