"""The backbone and the head of an enrolment, ready to work: from clips to cubes, and from cubes to scores."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache.packing import pack_float16
from ...cache.spec import FeatureSpec
from ...cache.versions import versions_of
from ...extract.decoding.decode import Clip, decode_clip
from ...extract.decoding.decode_ahead import DecodeAhead
from ...extract.decoding.pixels import pixel_rule_of
from ...extract.engine.workers import most_decoders
from .enrolment import Enrolment, HeadFacts, Network

if TYPE_CHECKING:
    from ...extract.backbones.base import Backbone
    from ...fewshot.methods.base import Method


@dataclass(frozen=True)
class Asked:
    """A clip to decode. links: as of `decode_clip`."""

    path: Path
    links: Any = None


def decode_ahead(clips: list[Asked], spec: FeatureSpec, *, workers: int | None, timeout_s: float) -> DecodeAhead:
    """The clips in their order, decoded in threads from this moment on; close it. Needs no network yet."""
    rule = pixel_rule_of(spec)

    def load(number: int) -> Clip:
        clip = clips[number]
        how = {"frames": spec.frames, "rule": rule, "sampling": spec.sampling, "key": clip.path.name}
        return decode_clip(clip.path, timeout_s=timeout_s, links=clip.links, **how)

    threads = workers or most_decoders()
    return DecodeAhead(range(len(clips)), load, threads=threads, workers=threads, in_flight=2 * threads)


class LiveNetwork:
    """A backbone in its fast form. facts: how it was loaded; those of an enrolment spare trying it again."""

    def __init__(self, backbone: "Backbone", *, weights: str, precision: str, device: str, known: Network | None):
        from ...extract.backbones.inference import prepare, resolve_precision
        from ...extract.machines.devices import resolve_device

        target = resolve_device(device)
        self.backbone = backbone
        self.precision = resolve_precision(precision, target, frames=backbone.frames)
        place, versions = _place(target), versions_of("mastaf", "torch")
        same = known is not None and (known.device, known.versions) == (place, versions)
        folded = known.folded if known is not None and same else None
        self._run = prepare([backbone], precision=self.precision, device=target, folded=folded)
        self.facts = Network(weights=weights, device=place, versions=versions, folded=self._run.folded)

    def cube(self, clip: np.ndarray) -> tuple[np.ndarray, str]:
        """(float16 [c, t, h, w], '') of a clip uint8 [frames, size, size, 3]; or zeros and why there is no cube.

        Clips go one by one: a cube then depends on no other clip of the call.
        """
        import torch

        (found,) = self._run(torch.from_numpy(np.ascontiguousarray(clip))[None])  # [1, c, t, h, w]
        packed, reasons = pack_float16(found.numpy())
        return packed[0], reasons[0] or ""


def _place(device: Any) -> str:
    """The device, and of a CPU its model: on another the same bits are not promised."""
    from ...extract.machines.devices import device_name

    if device.type != "cpu":
        return device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu {models[0]}" if models else "cpu"


def load_network(enrolment: Enrolment, *, weights: str | None, device: str) -> LiveNetwork:
    """The backbone of an enrolment. weights: where they are now, None for where they were. SpecMismatchError where it
    would not make the cubes that are enrolled."""
    from ...extract.backbones.registry import load_backbone
    from ...extract.recipe import make_spec

    spec, known = enrolment.spec, enrolment.network
    given = weights or known.weights
    how = {"frames": spec.frames, "size": spec.size, "resize": spec.resize, "layer": spec.layer, "time": spec.time}
    backbone = load_backbone(spec.backbone, weights=given or None, revision=spec.revision or None, **how)
    found = make_spec(backbone, views=spec.views, sampling=spec.sampling, precision=spec.precision)
    spec.require_equal(found, here="the file of classes", there=f"backbone '{spec.backbone}' as it loads here")
    return LiveNetwork(backbone, weights=given, precision=spec.precision, device=device, known=known)


def load_head(enrolment: Enrolment) -> "Method":
    """The head of an enrolment, in its settings and with its parameters."""
    import torch

    from ...fewshot.checkpoint import build_method
    from ...fewshot.weights import load_exactly

    head = enrolment.head
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in enrolment.head_tensors.items()}
    with torch.random.fork_rng(devices=[]):
        method = build_method(head.method, head.keywords, spec=enrolment.spec, n_train_classes=head.n_train_classes)
    load_exactly(method, tensors, Path("the file of classes"))
    return method


def head_facts(
    name: str, method: "Method", *, run: Path | None = None, weights: Path | None = None, selected_on: str = "none"
) -> tuple[HeadFacts, dict[str, np.ndarray]]:
    """What the file keeps of a head: facts, and parameters."""
    words = dict(method.describe())
    facts = HeadFacts(
        method=name,
        keywords={k: v for k, v in words.items() if k not in ("cube_shape", "n_train_classes")},
        n_train_classes=int(words["n_train_classes"]),
        run="" if run is None else str(run),
        weights_sha256="" if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest(),
        selected_on=selected_on,
    )
    return facts, {key: value.detach().cpu().numpy() for key, value in method.state_dict().items()}
