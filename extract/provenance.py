"""What a store says about the run that made it, beyond what its cubes depend on."""

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .backbones.base import Backbone
from .ffmpeg import ffmpeg_exe
from .videos import VideoSet


def provenance(videos: VideoSet, backbone: Backbone, *, device: str, command: str, allow_flip: bool) -> dict[str, Any]:
    """Plain JSON values: versions, device, date, weights, what was left out of the data set, the command."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "root": str(videos.root),
        "device": device,
        "versions": {"python": platform.python_version(), "ffmpeg": _ffmpeg_version()}
        | {name: _package_version(name) for name in ("mastaf", "torch", "numpy", "zarr", "h5py")},
        "weights_source": backbone.weights_source,
        "weights_facts": backbone.facts,
        "allow_flip": allow_flip,
        "ignored": videos.ignored,
        "notes": list(videos.notes),
    }


@cache
def _ffmpeg_version() -> str:
    answer = subprocess.run([ffmpeg_exe(), "-version"], capture_output=True, text=True, check=False, timeout=60)
    return answer.stdout.partition("\n")[0]


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
