"""What a process that computes cubes has: asked before there is a store, because the recipe depends on it."""

import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...cache.versions import versions_of
from ..backbones.inference import resolve_precision
from ..decoding.ffmpeg import ffmpeg_version
from ..errors import ExtractError
from ..machines.devices import device_name, resolve_device
from .workers import default_workers


@dataclass(frozen=True)
class Place:
    """host: its name; device: as records name it; precision: as resolved there; cores: that the process may use;
    threads: of torch's; versions: on which bits depend."""

    host: str
    device: str
    precision: str
    cores: int
    threads: int
    versions: Mapping[str, str]


def look_around(device: str, precision: str, frames: int) -> Place:
    """This process as a place for `device`. ExtractError for a device or precision that it has not."""
    target = resolve_device(device)
    return Place(
        host=socket.gethostname(),
        device=device_name(target),
        # Single frames are where bfloat16 convolutions go wrong on CPUs; there, it is not chosen by itself.
        precision=resolve_precision(precision, target, frames=frames),
        cores=default_workers(),
        threads=torch.get_num_threads(),
        versions=versions_here(),
    )


def versions_here() -> dict[str, str]:
    """What bits depend on beside device, precision and threads."""
    return versions_of("mastaf", "torch") | {"ffmpeg": ffmpeg_version()}


def one_precision(places: Sequence[Place]) -> str:
    """The precision that all places resolved. ExtractError when they differ."""
    found = {place.precision: place for place in places}
    if len(found) > 1:
        words = ", ".join(f"{name} on {place.device} of {place.host}" for name, place in found.items())
        raise ExtractError(f"precision (auto) must be one for all devices, but is {words}; pass --precision")
    return places[0].precision


def processes_by_host(places: Sequence[Place]) -> dict[str, int]:
    """How many processes share each host's cores."""
    return dict(Counter(place.host for place in places))


def default_threads(places: Sequence[Place]) -> int:
    """Threads a forward pass, in a new store: torch's own choice, or a host's cores shared out among its processes."""
    if len(places) == 1:
        return places[0].threads
    sharing = processes_by_host(places)
    return max(min(place.cores // sharing[place.host] for place in places), 1)
