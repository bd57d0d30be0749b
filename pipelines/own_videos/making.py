"""Enrolment: from settings and example clips to an `Enrolment`."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import console
from ...cache.spec import FeatureSpec
from ...cache.text import shown
from ..errors import PipelineError
from .enrolment import Enrolment, Example, HeadFacts
from .live import Asked, LiveNetwork, decode_ahead, head_facts
from .support import Support, SupportClip

if TYPE_CHECKING:
    from ...extract.backbones.base import Backbone

DEFAULT_BACKBONE = "r3d-tiny"
NEIGHBOR = {"variant": "neighbor"}  # of MASTAF: nothing to train


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides how clips become cubes and cubes become scores; None: the checkpoint's, else the backbone's own.

    backbone to resize: as of `load_backbone`; precision: as of mastaf-extract; checkpoint: a run of mastaf-fewshot,
    or the head folder of a fine-tuning, whose tuned weights are then the default; method, method_keywords: of a head
    without training, Neighbor by default.
    """

    backbone: str | None = None
    weights: str | None = None
    revision: str | None = None
    layer: str | None = None
    time: str | None = None
    frames: int | None = None
    size: int | None = None
    resize: str | None = None
    precision: str | None = None
    checkpoint: Path | None = None
    method: str | None = None
    method_keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Begun:
    """A network and a head that fit together, before anything is enrolled."""

    network: LiveNetwork
    spec: FeatureSpec
    head: HeadFacts
    head_tensors: Mapping[str, np.ndarray]

    def enrolment(self, examples: Sequence[Example], cubes: np.ndarray) -> Enrolment:
        """The examples with their cubes float16 [n, c, t, h, w], not calibrated yet."""
        return Enrolment(
            spec=self.spec,
            network=self.network.facts,
            head=self.head,
            head_tensors=self.head_tensors,
            examples=tuple(examples),
            cubes=cubes,
        )


def begin(settings: Settings, *, device: str) -> Begun:
    """Load network and head. Raises ExtractError, FewShotError, SpecMismatchError, PipelineError on what cannot be."""
    if settings.checkpoint is None:
        return _without_run(settings, device)
    if settings.method is not None or settings.method_keywords:
        raise PipelineError("a checkpoint fixes the method: give a checkpoint, or a method with its options, not both")
    return _with_run(settings, Path(settings.checkpoint), device)


def _without_run(settings: Settings, device: str) -> Begun:
    from ...fewshot.head import untrained_method

    backbone = _load(settings, None)
    network = LiveNetwork(
        backbone, weights=_lasting(settings.weights), precision=settings.precision or "auto", device=device, known=None
    )
    spec = _spec(backbone, network.precision, "even")
    keywords = dict(settings.method_keywords)
    if settings.method is None and not keywords:
        keywords = dict(NEIGHBOR)
    name = settings.method or "mastaf"
    method = untrained_method(name, keywords, spec, features="STORE")
    facts, tensors = head_facts(name, method)
    return Begun(network, spec, facts, tensors)


def _with_run(settings: Settings, checkpoint: Path, device: str) -> Begun:
    from ...fewshot.checkpoint import load_run_for
    from ...fewshot.training.run_config import read_config

    if not checkpoint.exists():
        raise PipelineError(f"checkpoint ({checkpoint}) must exist; give the folder that mastaf-fewshot train wrote")
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    there = read_config(folder).spec
    settings = replace(settings, weights=settings.weights or tuned_weights(folder))
    backbone = _load(settings, there)
    network = LiveNetwork(
        backbone,
        weights=_lasting(settings.weights),
        precision=settings.precision or there.precision,
        device=device,
        known=None,
    )
    spec = _spec(backbone, network.precision, there.sampling)
    # How cubes were stored, and which other views there were, is no other recipe of a plain clip.
    alike = replace(spec, views=there.views, dtype=there.dtype)
    run = load_run_for(checkpoint, alike, f"backbone '{backbone.name}' with its weights")
    facts, tensors = head_facts(
        run.config.method, run.method, run=run.folder.absolute(), weights=run.weights, selected_on=run.selected_on
    )
    return Begun(network, spec, facts, tensors)


def tuned_weights(folder: Path) -> str | None:
    """The weights that a fine-tuning left beside its head's folder, if this is one."""
    from ..finetuning.results import HEAD_FOLDER
    from ..finetuning.settings import WEIGHTS_FILE

    beside = folder.absolute().parent / WEIGHTS_FILE
    return str(beside) if folder.absolute().name == HEAD_FOLDER and beside.is_file() else None


def _load(settings: Settings, there: FeatureSpec | None) -> "Backbone":
    """The backbone as asked for, else as of the checkpoint's cubes."""
    from ...extract.backbones.registry import load_backbone

    name = settings.backbone or (there.backbone if there else DEFAULT_BACKBONE)
    same = there if there is not None and there.backbone == name else None

    def pick(option: str, usual: Any) -> Any:
        given = getattr(settings, option)
        return given if given is not None else getattr(same, option) if same else usual

    revision = settings.revision or (same.revision or None if same and not settings.weights else None)
    how = {option: pick(option, None) for option in ("frames", "size", "layer")}
    how |= {"resize": pick("resize", "squash"), "time": pick("time", "keep")}
    return load_backbone(name, weights=settings.weights, revision=revision, **how)


def _spec(backbone: "Backbone", precision: str, sampling: str) -> FeatureSpec:
    from ...extract.recipe import make_spec

    return make_spec(backbone, views=("plain",), sampling=sampling, precision=precision)


def _lasting(weights: str | None) -> str:
    """The weights' name, so that it holds in another working folder."""
    return "" if weights is None else str(Path(weights).absolute()) if Path(weights).exists() else weights


def make_cubes(
    support: Support,
    network: LiveNetwork,
    spec: FeatureSpec,
    *,
    known: Mapping[str, np.ndarray],
    workers: int | None,
    timeout_s: float,
    progress: bool,
) -> tuple[list[Example], np.ndarray]:
    """(examples, cubes float16 [n, c, t, h, w]) of the clips that can be used; the others join `support.failures`.

    known: cubes [c, t, h, w] of this recipe by content, which are not computed again.
    """
    examples: list[Example] = []
    cubes: list[np.ndarray] = []
    new = [clip for clip in support.clips if clip.example.sha256 not in known]
    ahead = decode_ahead([Asked(c.path, c.links) for c in new], spec, workers=workers, timeout_s=timeout_s)
    with ExitStack() as held:
        held.callback(ahead.close)
        bar = held.enter_context(console.Progress(len(support.clips), "enrol", "clips")) if progress else None
        for clip in support.clips:
            note, cube = "", known.get(clip.example.sha256)
            if cube is None:
                cube, note = _cube(next(ahead), network)
            if cube is None:
                support.failures.append((str(clip.path), note))
            else:
                examples.append(replace(clip.example, note=note) if note else clip.example)
                cubes.append(cube)
            if bar is not None:
                bar.advance()
    _require_examples(support.clips, examples, support.failures)
    return examples, np.stack(cubes) if cubes else np.zeros((0, *spec.cube_shape), np.float16)  # [n, c, t, h, w]


def _cube(decoded: Any, network: LiveNetwork) -> tuple[np.ndarray | None, str]:
    """(cube [c, t, h, w], note), or None and why there is none."""
    if decoded.clip is None:
        return None, decoded.reason
    cube, reason = network.cube(decoded.clip.pixels)
    return (None, reason) if reason else (cube, decoded.clip.note)


def _require_examples(asked: list[SupportClip], found: list[Example], failures: list[tuple[str, str]]) -> None:
    usable = {example.class_name for example in found}
    without = [name for name in dict.fromkeys(clip.example.class_name for clip in asked) if name not in usable]
    if without:
        path, reason = failures[0]
        raise PipelineError(
            f"no example clip of class '{shown(without[0])}' can be used ({path}: {reason}); give it another"
        )
