"""What a store says about the run that made it, beyond what its cubes depend on."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .backbones.base import Backbone
from .ffmpeg import ffmpeg_version
from .videos import VideoSet


def provenance(videos: VideoSet, backbone: Backbone, *, device: str, command: str, allow_flip: bool) -> dict[str, Any]:
    """Plain JSON values: versions, device, date, weights, what was left out of the data set, the command."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "root": str(videos.root),
        "device": device,
        "versions": {"python": platform.python_version(), "ffmpeg": ffmpeg_version()}
        | {name: _package_version(name) for name in ("mastaf", "torch", "numpy", "zarr", "h5py")},
        "weights_source": backbone.weights_source,
        "weights_facts": backbone.facts,
        "allow_flip": allow_flip,
        "ignored": videos.ignored,
        "notes": list(videos.notes),
    }


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
