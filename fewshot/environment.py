"""What a result was made with: device, threads and versions."""

import torch

from ..cache.versions import versions_of
from .errors import FewShotError


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


def versions() -> dict[str, str]:
    """Versions that scores may depend on."""
    return versions_of("mastaf", "torch", "numpy")


def describe_device(device: torch.device) -> str:
    """`cpu, 2 threads`, or the accelerator's name."""
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"
