"""3D residual networks: K. Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
CVPR 2018.

Every convolution is three-dimensional and without bias, each followed by BatchNorm. Names of modules are those of
the authors' checkpoints, so that their state dicts load as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Shape, StagedNet
from .gpu_convolution import FewChannelsConv3d, relu_of

Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ResNet3DPlan:
    """The sizes of a network. blocks, widths, strides: of layer1 .. layer4, strides alike on (t, h, w)."""

    bottleneck: bool
    blocks: Sequence[int]
    widths: Sequence[int]
    strides: Sequence[int]
    stem_width: int
    stem_kernel: Triple
    stem_stride: Triple
    stem_pool: bool

    def cube_shape(self, frames: int, size: int, layer: str) -> Shape:
        """(c, t, h, w) of a stage's output for clips of frames x size x size, by arithmetic alone."""
        # Every kernel k is odd and padded by (k - 1) / 2, so only its stride s counts: n -> ceil(n / s).
        t, h = (-(-n // s) for n, s in zip((frames, size), self.stem_stride[:2], strict=True))
        t, h = (-(-t // 2), -(-h // 2)) if self.stem_pool else (t, h)
        c = self.stem_width
        for number in range(1, _number(layer) + 1):
            stride = self.strides[number - 1]
            t, h = -(-t // stride), -(-h // stride)
            c = self.widths[number - 1] * (4 if self.bottleneck else 1)
        return c, t, h, h


def _number(layer: str) -> int:
    return 0 if layer == "stem" else int(layer.removeprefix("layer"))


class Stem(nn.Module):
    """The first convolution, and a pooling."""

    def __init__(self, conv: nn.Conv3d, norm: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = conv, norm, pool

    def forward(self, x: Tensor) -> Tensor:
        """[b, 3, t, h, w] -> [b, c, t', h', w']."""
        return self.pool(relu_of(self.conv, self.norm, x))


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut; the first one has the stride."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.downsample = _shortcut(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c_in, t, h, w] -> [b, width, t', h', w']."""
        y = relu_of(self.conv1, self.bn1, x)
        return relu_of(self.conv2, self.bn2, y, add=x, through=self.downsample)


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 and 1x1x1 convolutions and a shortcut; the middle one has the stride."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.downsample = _shortcut(c_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c_in, t, h, w] -> [b, 4 width, t', h', w']."""
        y = relu_of(self.conv1, self.bn1, x)
        y = relu_of(self.conv2, self.bn2, y)
        return relu_of(self.conv3, self.bn3, y, add=x, through=self.downsample)


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential | None:
    """Shortcut type B: a projection where the shape changes, the identity (None) elsewhere."""
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(nn.Conv3d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm3d(c_out))


class ResNet3D(StagedNet):
    """The trunk: stages `stem`, `layer1` .. `layer4`, without pooling and classifier."""

    def __init__(self, plan: ResNet3DPlan) -> None:
        super().__init__()
        self.plan = plan
        kernel, c = plan.stem_kernel, plan.stem_width
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv1 = FewChannelsConv3d(3, c, kernel, plan.stem_stride, padding, bias=False)
        self.bn1 = nn.BatchNorm3d(c)
        self.maxpool = nn.MaxPool3d(3, 2, 1) if plan.stem_pool else nn.Identity()
        block = Bottleneck if plan.bottleneck else BasicBlock
        for number, (count, width, stride) in enumerate(zip(plan.blocks, plan.widths, plan.strides, strict=True), 1):
            c_out = 4 * width if plan.bottleneck else width
            blocks = [block(c, width, stride)] + [block(c_out, width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            c = c_out
        self.n_layers = len(plan.blocks)

    def stages(self) -> dict[str, nn.Module]:
        """Name -> stage, in order."""
        stem = Stem(self.conv1, self.bn1, self.maxpool)
        layers = {f"layer{n}": self.get_submodule(f"layer{n}") for n in range(1, self.n_layers + 1)}
        return {"stem": stem, **layers}

    def cube_shape(self, layer: str, frames: int, size: int) -> Shape:
        """By arithmetic alone."""
        return self.plan.cube_shape(frames, size, layer)


def random_state(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """A fresh state dict for `net` (which may be on the meta device): He et al.'s normal, fan out; BatchNorm at
    identity. Drawn from its own generator, so that no global state is used or changed."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, like in net.state_dict().items():
        if like.dim() == 5:
            weight = torch.empty(like.shape)
            state[name] = nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
        else:
            ones = name.endswith((".weight", "running_var"))
            state[name] = (
                torch.ones(like.shape, dtype=like.dtype) if ones else torch.zeros(like.shape, dtype=like.dtype)
            )
    return state
