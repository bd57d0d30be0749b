"""What a result was made with: device, threads and versions."""

import torch

from ..cache.versions import versions_of
from .errors import FewShotError
from .methods.registry import plugin_code


def resolve_device(name: str) -> torch.device:
    """The torch device of `auto`, `cpu`, `cuda` or `cuda:N`. Raises FewShotError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise FewShotError(f"device ({name}) must be auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise FewShotError(f"device ({name}) must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FewShotError(f"device ({name}) is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def versions(method: str | None = None) -> dict[str, str]:
    """Versions that scores may depend on; with a method, also which code a plug-in is."""
    plugin = plugin_code(method) if method is not None else {}
    return versions_of("mastaf", "torch", "numpy") | {f"plug-in {name}": value for name, value in plugin.items()}


def describe_device(device: torch.device) -> str:
    """`cpu, 2 threads`, or the accelerator's name."""
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"
