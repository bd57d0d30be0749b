"""Where the cubes of a split stay while episodes are drawn from them: decided by sizes, unless it is said.

The command line takes its choices from here, so torch is not imported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FewShotError

if TYPE_CHECKING:
    import torch

BANKS = ("gpu", "ram", "mmap", "stream")
_SHARE = 0.6  # of the memory that is free: the rest is for episodes, for the page cache, and for others

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Residence:
    """kind: of BANKS; why: the sizes that decided, in words."""

    kind: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.why})"


def choose_residence(
    asked: str | None,
    *,
    nbytes: int,
    device: "torch.device",
    compressed: bool,
    format: str,
    remote: bool,
    dtype: str = "float16",
) -> Residence:
    """Where `nbytes` of cubes, 16 bits a number, are to stay; asked: of BANKS, None for what fits.

    On an accelerator its memory, else RAM, while a good share of what is free is enough; else the store's own files,
    memory-mapped, or read as they are needed where compression, int8 (dtype), or object storage (remote), rules a map
    out. Raises FewShotError for a kind that this device or store cannot have.
    """
    size = f"{nbytes / 1e9:.2f} GB"
    if asked is not None:
        _require_possible(asked, device=device, compressed=compressed, format=format, remote=remote, dtype=dtype)
        return Residence(asked, f"{size}, as asked")
    if device.type == "cuda":
        import torch

        free = torch.cuda.mem_get_info(device)[0]
        if nbytes <= _SHARE * free:
            return Residence("gpu", f"{size} of {free / 1e9:.1f} GB free")
    free = free_memory()
    if nbytes <= _SHARE * free:
        return Residence("ram", f"{size} of {free / 1e9:.1f} GB free")
    lack = f"{size} are too much for {free / 1e9:.1f} GB of free memory"
    if dtype == "int8" and format != ".zarr":
        raise FewShotError(f"{lack}, and int8 cubes in {format} can go nowhere else; mastaf-cache convert to .zarr")
    return Residence("stream" if compressed or remote or dtype == "int8" else "mmap", lack)


def free_memory() -> int:
    """Bytes that this process may still take without swapping: of the machine, and of its control group."""
    found = [line.split() for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:")]
    free = int(found[0][1]) * 1024 if found else 1 << 32
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _number(path: Path) -> int | None:
    text = path.read_text().strip() if path.is_file() else "max"
    return int(text) if text.isdigit() else None


def _require_possible(
    asked: str, *, device: "torch.device", compressed: bool, format: str, remote: bool, dtype: str
) -> None:
    if asked not in BANKS:
        raise FewShotError(f"bank ({asked}) must be one of {', '.join(BANKS)}")
    if asked == "gpu" and device.type != "cuda":
        raise FewShotError(f"bank (gpu) must go with an accelerator, not --device {device}; give --bank ram")
    if asked == "mmap" and remote:
        raise FewShotError(
            "bank (mmap) must go with a store on a disk: objects have no maps; give --bank ram or stream"
        )
    if asked == "mmap" and compressed:
        raise FewShotError("bank (mmap) must go with a store that is not compressed; give --bank ram or stream")
    if asked == "mmap" and dtype != "float16":
        raise FewShotError(f"bank (mmap) must go with float16 cubes, and these are {dtype}; give --bank ram or stream")
    if asked == "stream" and format != ".zarr":
        others = "mmap or ram" if dtype == "float16" else "ram"
        raise FewShotError(f"bank (stream) must go with a .zarr store, not {format}; give --bank {others}")
