"""A model of the transformers library as a staged network: its blocks are the stages, and each gives a cube.

The library's models are no chains of modules: a block may take more than the tokens (rotary positions, masks, sizes).
So the model itself always runs, as its authors wrote it; what a block gives is read by a hook, the pass is left as
soon as the last wanted block has run, and to go on from a stored cube the blocks before it are stood in for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ...errors import ExtractError
from ..base import Shape, StagedNet
from ..checkpointing import runs_again_for_gradients
from .graph import Owners
from .layout import TokenLayout

EMBED, LAST = "embed", "last"


class _Reached(Exception):  # noqa: N818 - a signal: nothing that is still to be computed is wanted
    pass


class HubNet(StagedNet):
    """Stages `embed` (what enters the first block), the blocks by name, and `last` (behind the final norm), where
    that is more than the last block.

    model: of the transformers library; blocks: name -> module, in the order in which they run; argument: name of its
    pixels; video: whether it takes [b, t, 3, h, w] and not single images [b, 3, h, w]; options: further arguments.
    `settle` completes it, once it is known what the model's outputs look like.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: dict[str, nn.Module],
        *,
        argument: str,
        video: bool,
        options: dict[str, Any],
        frames: int,
        size: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.video, self.argument, self.options = video, argument, options
        self.frames, self.size = frames, size
        paths = {id(module): path for path, module in model.named_modules()}
        self._paths = {name: paths[id(block)] for name, block in blocks.items()}
        self._owners: dict[str, Owners] = {}
        self._templates: dict[str, Any] = {}
        self._shapes: dict[str, Shape] = {}
        self._layout: TokenLayout | None = None

    def settle(
        self,
        *,
        shapes: dict[str, Shape],
        layout: TokenLayout | None,
        owners: dict[str, Owners],
        templates: dict[str, Any],
    ) -> None:
        """shapes: stage -> (c, t, h, w), the stages that there are; layout: None where the model gives maps; owners:
        what holds each stage's parameters; templates: what each block returned, to be returned again where it is
        stood in for."""
        self._shapes, self._layout, self._owners, self._templates = shapes, layout, owners, templates

    def cube_shape(self, layer: str, frames: int, size: int) -> Shape:
        """As seen when the network was made, for its own clips."""
        if (frames, size) != (self.frames, self.size):
            raise ExtractError(
                f"clips of {frames} x {size} x {size} do not suit a network made for {self.frames} x {self.size} x "
                f"{self.size}; load it anew"
            )
        return self._shapes[layer]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks, in order."""
        return tuple(self._paths)

    @property
    def prefix_tokens(self) -> int:
        """See `StagedNet.prefix_tokens`."""
        return self._layout.prefix if self._layout else 0

    @property
    def last_stage(self) -> str:
        """The name of the last stage that gives a cube."""
        return list(self._shapes)[-1]

    def block(self, name: str) -> nn.Module:
        """The block of a stage."""
        return self.model.get_submodule(self._paths[name])

    def stages(self) -> dict[str, nn.Module]:
        """Name -> what owns the stage's parameters, in order. To run them is the business of `outputs`."""
        return {name: self._owners[name].of(self.model) for name in self._shapes}

    def outputs(self, x: Tensor, layers: Sequence[str], *, after: str | None = None) -> dict[str, Tensor]:
        """See `StagedNet.outputs`. ExtractError where the cubes of `after` lack tokens that the next block needs."""
        later = [name for name in layers if name != after]
        found: dict[str, Tensor] = {after: x} if after is not None and after in layers else {}
        if not later:
            return found
        with ExitStack() as stack:
            if after is not None:
                stack.enter_context(self._stand_in(after, self._from_cube(x, after)))
                # What the model computes from pixels beside the tokens depends on their shape alone.
                x = x.new_zeros(x.shape[0], 3, self.frames, self.size, self.size)
            raw = self.run(x, later)
        return found | {name: self.to_cube(value, name) for name, value in raw.items()}

    def run(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Normalised clips [b, 3, t, h, w] -> the model's own tokens [n, tokens, c] or maps [n, c, h, w]."""
        found: dict[str, Tensor] = {}
        inputs = x.transpose(1, 2)  # [b, t, 3, h, w]
        inputs = inputs if self.video else inputs.flatten(0, 1)  # [b * t, 3, h, w]
        with ExitStack() as stack:
            for block in self._paths if self.forgets else ():
                stack.enter_context(runs_again_for_gradients(self.block(block)))
            for name in layers:
                stack.enter_context(self._read(name, found, stop=set(layers)))
            try:
                output = self.model(**{self.argument: inputs}, **self.options)
                found[LAST] = output.last_hidden_state
            except _Reached:
                pass
        return {name: found[name] for name in layers}

    def shape_of(self, raw: Tensor, name: str, layout: TokenLayout | None) -> Shape:
        """(c, t, h, w) of the cube that a stage's output is under a layout. ExtractError where it is none."""
        if raw.dim() == 4:
            n, c, h, w = raw.shape
            if h != w:
                raise ExtractError(f"stage {name} must give square maps [b, c, h, w], but gave {(n, c, h, w)}")
            return c, self.frames, h, w
        if raw.dim() != 3 or layout is None:
            raise ExtractError(
                f"stage {name} must give tokens [b, n, c] or maps [b, c, h, w], but gave {tuple(raw.shape)}"
            )
        t, h, w = layout.coarser(raw.shape[1], f"stage {name}")
        return raw.shape[2], t if self.video else self.frames, h, w

    def to_cube(self, raw: Tensor, name: str) -> Tensor:
        """What a stage gave -> cube [b, c, t, h, w]."""
        t = 1 if self.video else self.frames
        if raw.dim() == 4:
            return raw.unflatten(0, (-1, t)).transpose(1, 2)  # [b, c, t, h, w]
        if self._layout is None:
            raise ExtractError(f"stage {name} must give maps [b, c, h, w], but gave {tuple(raw.shape)}")
        cube = self._layout.to_cube(raw, self._layout.coarser(raw.shape[1], f"stage {name}"))  # [n, c, t, h, w]
        return cube if self.video else cube.squeeze(2).unflatten(0, (-1, t)).transpose(1, 2)  # [b, c, t, h, w]

    def _from_cube(self, cube: Tensor, name: str) -> Tensor:
        """Inverse of `to_cube`."""
        images = cube if self.video else cube.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # [n, c, t or 1, h, w]
        if self._layout is None:
            return images.squeeze(2)
        if self._layout.prefix:
            raise ExtractError(
                f"cubes of stage {name} hold no class or register tokens, and the stages behind it need "
                f"{self._layout.prefix}; go on from clips, or store cubes of the last stage"
            )
        return self._layout.to_tokens(images)

    @contextmanager
    def _read(self, name: str, found: dict[str, Tensor], *, stop: set[str]) -> Iterator[None]:
        """Write what stage `name` gives into `found`; leave the pass when all of `stop` are there."""

        def keep(value: Any) -> None:
            found[name] = first_tensor(value)
            if stop <= set(found):
                raise _Reached

        if name == LAST:
            yield
            return
        if name == EMBED:
            block = self.block(next(iter(self._paths)))
            hook = block.register_forward_pre_hook(
                lambda _block, args, kwargs: keep(args or tuple(kwargs.values())), with_kwargs=True
            )
        else:
            hook = self.block(name).register_forward_hook(lambda _block, _args, output: keep(output))
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def _stand_in(self, name: str, entry: Tensor) -> Iterator[None]:
        """Let the blocks up to `name` give `entry` without computing anything."""
        names = list(self._paths)
        first = self.block(names[0])
        if name == EMBED:
            hook = first.register_forward_pre_hook(lambda _b, a, k: replace_first(entry, a, k), with_kwargs=True)
            try:
                yield
            finally:
                hook.remove()
            return
        past = names[: names.index(name) + 1]
        for block in past:
            template = self._templates[block]
            self.block(block).forward = _giving(entry, template)
        try:
            yield
        finally:
            for block in past:
                del self.block(block).forward


def first_tensor(value: Any) -> Tensor:
    """The hidden states among what a block takes or gives: a tensor, or the first one of a tuple."""
    for part in value if isinstance(value, tuple | list) else (value,):
        if isinstance(part, Tensor):
            return part
    raise ExtractError(f"a block must give a tensor, but gave {type(value).__name__}")


def replace_first(
    entry: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's arguments with other hidden states."""
    if args:
        return (entry, *args[1:]), kwargs
    return args, {**kwargs, next(iter(kwargs)): entry}


def _giving(entry: Tensor, template: Any) -> Callable[..., Any]:
    """A `forward` that gives `entry` in the form in which the block gave its own."""
    answer = (entry, *template[1:]) if isinstance(template, tuple) else entry
    return lambda *_args, **_kwargs: answer


def without_tensors(value: Any) -> Any:
    """What a block returned, kept as a template: sizes stay, tensors are forgotten."""
    if isinstance(value, tuple):
        return tuple(without_tensors(part) for part in value)
    return None if isinstance(value, Tensor) else value
