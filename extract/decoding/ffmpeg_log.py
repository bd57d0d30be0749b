"""What ffmpeg's log means. Its lines carry their level in brackets (`-loglevel level+...`)."""

import re

_DECODED = re.compile(r"Input stream #0:\d+ \(video\): .*?(\d+) frames decoded")
_ERROR = re.compile(r"^(?:\[[^\]]* @ [^\]]*\] )*\[(?:error|fatal|panic)\] ?(?:\[[^\]]* @ [^\]]*\] ?)*(.*)")
# Lines that only say that a line before them was an error.
_ECHO = re.compile(
    r"Error (opening|parsing|while opening|submitting packet)|Conversion failed|To ignore this|Failed to set"
    r"|Task finished|Terminating thread|Could not open encoder|Nothing was written|Cannot determine format"
    r"|Decode error rate|$"
)
_WHERE = re.compile(r"^(Error opening [^:]*|file:.*): ")  # the reader knows which file it is
# What ffmpeg says, what it means.
MEANINGS = {
    "matches no streams": "no video stream",
    "Option not found": "this ffmpeg is too old; unset MASTAF_FFMPEG or set it to version 5.1 or newer",
    "Format not on whitelist": "not a format that holds one video and nothing else (a list of other files?)",
    r"Picture size [1-9]\d*x[1-9]\d* (exceeds|is invalid)": "its pictures have more pixels than are allowed",
}


def decoded_frames(log: str) -> int | None:
    """Video frames that came out of the decoder, where a log at level verbose has it."""
    counts = _DECODED.findall(log)
    return int(counts[-1]) if counts else None


def last_error(log: str) -> str:
    """The last telling error of a log in words for people, one line; '' when there is none."""
    errors = [found.group(1) for found in map(_ERROR.match, log.splitlines()) if found]
    for pattern, meaning in MEANINGS.items():
        if any(re.search(pattern, error) for error in errors):
            return meaning
    telling = [error for error in errors if not _ECHO.match(error)] or errors
    return _WHERE.sub("", " ".join(telling[-1].split()))[:200] if telling else ""
