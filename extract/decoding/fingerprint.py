"""Which state of a video was read, so that a change is noticed: during the reading, and after it failed.

Size and times, no content and no inode: reading everything twice would cost more than decoding, and some network
file systems number files anew. A rename into place changes the time of the last change of status, whatever the times
of the content say.
"""

import hashlib
import os
import stat
from pathlib import Path

from ..datasets.naming import is_frame_name


def fingerprint(path: Path) -> str:
    """The state of a video file or folder of frames, links followed; '' when there is nothing that can be seen."""
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            return _of(status)
        with os.scandir(path) as entries:
            frames = sorted((entry.name, _of(entry.stat())) for entry in entries if is_frame_name(entry.name))
    except OSError:
        return ""
    return hashlib.sha256(os.fsencode(repr(frames))).hexdigest()


def _of(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
