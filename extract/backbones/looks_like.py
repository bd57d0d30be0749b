"""Which network a state dict belongs to, in words, by the names and shapes of its entries: for error messages.

Known are residual networks in the names of torchvision, 3D-ResNets-PyTorch and transformers, and vision transformers
in the names of transformers and timm.
"""

import re
from collections.abc import Mapping

from torch import Tensor

_DEPTHS: dict[tuple[str, tuple[int, ...]], int] = {
    ("basic", (1, 1, 1, 1)): 10,
    ("basic", (2, 2, 2, 2)): 18,
    ("basic", (3, 4, 6, 3)): 34,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
    ("bottleneck", (3, 24, 36, 3)): 200,
}
# The first convolution of a residual network: torchvision's 2D and Hara's 3D; torchvision's video networks;
# transformers. And of a R(2+1)D network, where it is in two parts.
_STEMS = ("conv1.weight", "stem.0.weight", "embedder.embedder.convolution.weight")
_SPLIT_STEM = "conv1_s.weight"
# The convolution of a vision transformer that cuts patches or tubelets: transformers, timm.
_PATCHES = re.compile(r"(^|\.)(patch_embed(dings?)?(\.proj|\.projection)?)\.weight$")
_BLOCK = re.compile(r"(.*\.)?(layers?|blocks)\.\d+\.")  # of several, the innermost
_OTHER_TOWERS = ("text_model.", "predictor.", "decoder.")


def looks_like(tensors: Mapping[str, Tensor]) -> str:
    """`a 3D ResNet-50`, `a vision transformer of 12 blocks ...`, or the first entries where nothing is known."""
    patches = next((tensor for name, tensor in tensors.items() if _PATCHES.search(name)), None)
    if patches is not None and patches.dim() in (4, 5):
        return _transformer(tensors, patches)
    names = {_bare(name): tensor for name, tensor in tensors.items()}
    if _SPLIT_STEM in names or "stem.3.weight" in names:
        return _residual(names, "R(2+1)D network", "R(2+1)D-")
    stem = next((names[name] for name in _STEMS if name in names), None)
    if stem is None or stem.dim() not in (4, 5):
        return f"no network known here (its first entries: {', '.join(list(tensors)[:2]) or 'none'})"
    kind = f"{stem.dim() - 2}D ResNet"
    return _residual(names, kind, f"{kind}-")


def _bare(name: str) -> str:
    """Without what frameworks put before the network's own names."""
    return re.sub(r"^(resnet|backbone|encoder\.backbone|model|net)\.", "", name)


def _residual(names: Mapping[str, Tensor], kind: str, with_depth: str) -> str:
    """Blocks of torchvision and Hara are layerS.B.convN..., those of transformers encoder.stages.S.layers.B.layer.N."""
    blocks: dict[int, set[str]] = {}
    bottleneck = False
    for name in names:
        here = re.match(r"layer([1-4])\.(\d+)\.", name) or re.match(r"encoder\.stages\.([0-3])\.layers\.(\d+)\.", name)
        if here:
            blocks.setdefault(int(here[1]), set()).add(here[2])
            bottleneck |= bool(re.match(r"(conv3\b|layer\.2\.)", name[here.end() :]))
    counts = tuple(len(blocks[stage]) for stage in sorted(blocks))
    if not counts:
        return f"a {kind.split()[0]} network"
    block = "bottleneck" if bottleneck else "basic"
    depth = _DEPTHS.get((block, counts))
    return f"a {with_depth}{depth}" if depth else f"a {kind} of {block} blocks {counts}"


def _transformer(tensors: Mapping[str, Tensor], patches: Tensor) -> str:
    names = [name for name in tensors if not name.startswith(_OTHER_TOWERS)]
    blocks = {name[: found.end()] for name in names if (found := _BLOCK.match(name))}
    if any(len(re.findall(r"\.\d+\.", block)) > 1 for block in blocks):
        return f"a network of stages (Swin- or ConvNeXt-like), patches of {' x '.join(map(str, patches.shape[2:]))}"
    pieces = " x ".join(map(str, patches.shape[2:]))
    what = "tubelets" if patches.dim() == 5 else "patches"
    return f"a vision transformer (ViT) of {len(blocks)} blocks, width {len(patches)}, {what} of {pieces}"
