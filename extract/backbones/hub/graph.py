"""Which parameters a cube depends on, and which modules hold them, read from the graph that autograd makes."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Owners:
    """What holds the parameters of a stage. modules: paths of modules that hold nothing else; parameters: paths of
    those that lie beside other stages' in one module."""

    modules: tuple[str, ...]
    parameters: tuple[str, ...]

    def of(self, model: nn.Module) -> nn.ModuleList:
        """The modules and, in one more, the single parameters of `model`."""
        found = nn.ModuleList([model.get_submodule(path) for path in self.modules])
        if self.parameters:
            single = nn.ParameterList()
            # Registered as they are: ParameterList.append would make new ones of what is shared.
            single.extend([model.get_parameter(path) for path in self.parameters])
            found.append(single)
        return found


def leaves_of(output: Tensor) -> set[int]:
    """ids of the parameters on which an output depends."""
    seen: set[Any] = set()
    found: set[int] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            found.add(id(variable))
        waiting += [upper for upper, _ in node.next_functions]
    return found


def owners_of(model: nn.Module, mine: set[int], used: set[int]) -> Owners:
    """The largest modules that hold only `mine` among the parameters `used` (ids), and what else holds some."""
    modules: list[str] = []
    parameters: list[str] = []

    def walk(module: nn.Module, path: str) -> None:
        here = {id(parameter) for parameter in module.parameters()} & used
        if not here & mine:
            return
        if here <= mine:
            modules.append(path)
            return
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in mine:
                parameters.append(f"{path}.{name}".lstrip("."))
        for name, child in module.named_children():
            walk(child, f"{path}.{name}".lstrip("."))

    walk(model, "")
    return Owners(tuple(modules), tuple(parameters))


def used_state(model: nn.Module, used: set[int]) -> dict[str, Tensor]:
    """The entries of the state dict that cubes depend on: parameters `used` (ids), with the buffers beside them."""
    kept = {name for name, parameter in model.named_parameters() if id(parameter) in used}
    for path, module in model.named_modules():
        if any(id(parameter) in used for parameter in module.parameters(recurse=False)):
            kept |= {f"{path}.{name}".lstrip(".") for name, _ in module.named_buffers(recurse=False)}
    return {name: tensor for name, tensor in model.state_dict().items() if name in kept}


def freeze_unused(model: nn.Module, used: set[int]) -> None:
    """Freeze what no cube depends on (a pooler, a mask token), so that nothing trains it."""
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in used)
