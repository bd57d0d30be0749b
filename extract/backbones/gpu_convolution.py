"""3D convolutions as a GPU likes them in 16 bits: few input channels by planes, and ReLU in the convolution's kernel.

A first convolution reads three channels. cuDNN's 3D kernels for that take 85 % of the time of R3D-50 in bfloat16
(docs/benchmarks.md). But a 3D convolution is a 2D one whose channels are those of all frames under the kernel:

    frames      0 1 2 3 4        kernel of 3 frames, padding 1, stride 2
    output 0  (-)0 1             channels of frames -1, 0, 1   (-1 and 5 are zeros)
    output 1      1 2 3          channels of frames  1, 2, 3
    output 2          3 4 (-)    channels of frames  3, 4, 5

and a stride of 2 over pixels is one of 1 over squares of 2 x 2 pixels, with four times as many channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW = 4  # input channels, at most
_MULTIPLE = 8  # of channels, for tensor cores


class FewChannelsConv3d(nn.Conv3d):
    """`nn.Conv3d` with the same parameters, in 16 bits on a GPU by a 2D convolution over planes.

    For few input channels, padded by zeros, without dilation and groups.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[b, c, t, h, w] -> [b, c', t', h', w']."""
        if input.device.type != "cuda" or self.in_channels > _FEW:
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else input.dtype
        if dtype.itemsize != 2:
            return super().forward(input)
        bias = None if self.bias is None else self.bias.to(dtype)
        return convolve_planes(input.to(dtype), self.weight.to(dtype), bias, stride=self.stride, padding=_sizes(self))


def _sizes(conv: nn.Conv3d) -> tuple[int, ...]:
    """The padding, in numbers."""
    return tuple(int(pad) for pad in conv.padding)


def relu_of(
    conv: nn.Conv3d, norm: nn.Module, x: Tensor, *, add: Tensor | None = None, through: nn.Module | None = None
) -> Tensor:
    """relu(norm(conv(x)) + through(add)): [b, c, t, h, w] -> [b, c', t', h', w'].

    add: a shortcut [b, ...], if any; through: a convolution and its norm that it takes, if any. Where norms are folded
    into convolutions of 16 bits on a GPU, all of it but the shortcut's convolution is one kernel.
    """
    if not _fuses(conv, norm, x):
        y = norm(conv(x))
        if add is not None:
            y = y.add_(add if through is None else through(add))
        return F.relu(y, inplace=True)
    stride, padding, bias = conv.stride, _sizes(conv), conv.bias
    if add is None:
        if isinstance(conv, FewChannelsConv3d) and conv.in_channels <= _FEW:
            return convolve_planes(x, conv.weight, bias, stride=stride, padding=padding, relu=True)
        return torch.cudnn_convolution_relu(x, conv.weight, bias, stride, padding, conv.dilation, conv.groups)
    if through is not None:
        add, more = _without_bias(through, add)
        bias = bias + more if bias is not None else more  # one sum instead of one more pass over the cube
    return torch.cudnn_convolution_add_relu(x, conv.weight, add, 1.0, bias, stride, padding, conv.dilation, conv.groups)


def _fuses(conv: nn.Conv3d, norm: nn.Module, x: Tensor) -> bool:
    """Whether a kernel of cuDNN's computes convolution, bias and ReLU at once: it has no gradient."""
    half = x.device.type == "cuda" and x.dtype == conv.weight.dtype and x.dtype.itemsize == 2
    return (
        half and isinstance(norm, nn.Identity) and not torch.is_grad_enabled() and torch.backends.cudnn.is_available()
    )


def _without_bias(shortcut: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a shortcut, whose norm is folded into its convolution, makes of x [b, c, t, h, w], and its bias [c']."""
    conv = next(iter(shortcut.children()))
    if not isinstance(conv, nn.Conv3d) or conv.bias is None:
        raise TypeError(f"shortcut ({shortcut}) must be a convolution with its norm folded into it")
    return F.conv3d(x, conv.weight, None, conv.stride, _sizes(conv)), conv.bias


def convolve_planes(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    relu: bool = False,
) -> Tensor:
    """As `F.conv3d`: x [b, c, t, h, w], weight [c', c, kt, kh, kw] -> [b, c', t', h', w'], channels last in memory.

    relu: on a GPU, in the same kernel.
    """
    planes = x.permute(0, 2, 3, 4, 1)  # [b, t, h, w, c]
    kernel = weight.permute(0, 2, 3, 4, 1)  # [c', kt, kh, kw, c]
    stride_hw, pad_hw = stride[1:], padding[1:]
    if stride_hw == (2, 2):
        planes, kernel = _squares_of(planes, kernel, pad_hw)
        stride_hw, pad_hw = (1, 1), (0, 0)
    planes, kernel = _side_by_side(planes, kernel, stride[0], padding[0])
    b, t, h, w, c = planes.shape
    flat = planes.reshape(b * t, h, w, c).permute(0, 3, 1, 2)  # [b t, c, h, w]
    kernel = kernel.permute(0, 3, 1, 2)  # [c', c, kh, kw]
    if relu:
        found = torch.cudnn_convolution_relu(flat, kernel, bias, stride_hw, pad_hw, (1, 1), 1)  # [b t, c', h', w']
    else:
        found = F.conv2d(flat, kernel, bias, stride_hw, pad_hw)  # [b t, c', h', w']
    return found.permute(0, 2, 3, 1).unflatten(0, (b, t)).permute(0, 4, 1, 2, 3)  # [b, c', t', h', w']


def _side_by_side(planes: Tensor, kernel: Tensor, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """planes [b, t, h, w, c], kernel [c', kt, kh, kw, c] -> [b, t', h, w, kt c], [c', kh, kw, kt c], with a few zero
    channels."""
    taps, c = kernel.shape[1], planes.shape[-1]
    spare = -taps * c % _MULTIPLE
    planes = F.pad(planes, (0, 0, 0, 0, 0, 0, padding, padding))  # [b, t + zeros, h, w, c]
    kernel = F.pad(kernel.movedim(1, 3).flatten(3), (0, spare))  # [c', kh, kw, kt c + spare]
    return F.pad(_stacked(planes, taps, stride), (0, spare)), kernel


def _stacked(planes: Tensor, taps: int, stride: int) -> Tensor:
    """Frames n stride .. n stride + taps - 1 side by side: [b, t, h, w, c] -> [b, t', h, w, taps c]."""
    whole = 8 // planes.element_size()
    if not planes.requires_grad and planes.shape[-1] % whole == 0:
        # Copied as numbers of 8 bytes: a GPU copies so many numbers a second, of whatever size.
        wide = planes.contiguous().view(torch.int64)
        return wide.unfold(1, taps, stride).movedim(-1, -2).flatten(-2).view(planes.dtype)  # [b, t', h, w, taps c]
    return planes.unfold(1, taps, stride).movedim(-1, -2).flatten(-2)  # [b, t', h, w, taps c]


def _squares_of(planes: Tensor, kernel: Tensor, padding: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """planes [b, t, h, w, c], kernel [c', kt, kh, kw, c] of stride 2 -> [b, t, h', w', 4 c], [c', kt, kh', kw', 4 c] of
    stride 1, without padding."""
    around, behind = [], []
    for axis in (1, 0):
        extent, pad, size = planes.shape[2 + axis], padding[axis], kernel.shape[2 + axis]
        many = (extent + 2 * pad - size) // 2 + 1  # outputs
        even = size + size % 2
        behind += [0, even - size]
        around += [pad, 2 * (many - 1) + even - extent - pad]  # a negative width crops
    return _squares(F.pad(planes, (0, 0, *around))), _squares(F.pad(kernel, (0, 0, *behind)))


def _squares(x: Tensor) -> Tensor:
    """[a, b, h, w, c] -> [a, b, h / 2, w / 2, 4 c]."""
    a, b, h, w, c = x.shape
    x = x.reshape(a, b, h // 2, 2, w // 2, 2, c).permute(0, 1, 2, 4, 3, 5, 6)  # [a, b, h / 2, w / 2, 2, 2, c]
    return x.reshape(a, b, h // 2, w // 2, 4 * c)
