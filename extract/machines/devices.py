"""Which devices a run computes on, and how records name them."""

from collections.abc import Sequence

import torch

from ..errors import ExtractError

DEVICES = " + "  # between the devices of a shard that several kinds had a part in


def resolve_device(device: str) -> torch.device:
    """The device of `auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:N`. ExtractError otherwise."""
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise ExtractError(f"devices ('{device}') must be auto, cpu or cuda:N, or several of these with commas")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ExtractError(f"devices ('{device}') is not there: this machine has {torch.cuda.device_count()} GPUs")
    return found


def resolve_devices(devices: str) -> list[torch.device]:
    """The devices of `auto` (every GPU of this machine, else the CPU), or of a list: a process for each.

    `cpu` may be repeated; a GPU that is named twice is an ExtractError, as are unknown names.
    """
    if devices == "auto" and torch.cuda.is_available():
        return [torch.device(f"cuda:{number}") for number in range(torch.cuda.device_count())]
    found = [resolve_device(part.strip()) for part in devices.split(",")]
    gpus = [device.index or 0 for device in found if device.type == "cuda"]
    if len(set(gpus)) < len(gpus):
        raise ExtractError(f"devices ({devices}) must name each GPU once: one process keeps a GPU busy")
    return found


def device_name(device: torch.device) -> str:
    """The device as records name it: `cpu`, or `cuda` and the GPU's model."""
    return "cpu" if device.type == "cpu" else f"cuda {torch.cuda.get_device_name(device)}"


def kinds_of(names: Sequence[str]) -> list[str]:
    """The kinds (`cpu`, `cuda`) among devices as records name them, each once."""
    return list(dict.fromkeys(part.split()[0] for name in names for part in name.split(DEVICES)))
