"""Whether a file can be written, asked before the work for it is done."""

import tempfile
from pathlib import Path

from ..errors import PipelineError


def require_writable(target: Path) -> None:
    """Make the folder of a file to come. PipelineError where the file is a folder, OSError where none can be made."""
    if target.is_dir():
        raise PipelineError(f"out ({target}) must be a file, but is a folder; give a name inside it")
    if target.parent.exists() and not target.parent.is_dir():
        raise PipelineError(f"out ({target}) must be in a folder, but {target.parent} is a file; give another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=target.parent, prefix=f".{target.name}."):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
