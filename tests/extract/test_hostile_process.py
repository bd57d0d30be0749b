"""A decoder that hangs, floods or crashes is stopped, with all that it started."""

import time
from pathlib import Path

import pytest
from mastaf.extract.decoding.ffmpeg import MAX_MEMORY, Finished, run_ffmpeg
from mastaf.extract.decoding.ffmpeg_log import decoded_frames, last_error
from mastaf.extract.errors import VideoError


def shell(script: str, *, seconds: float = 20, max_output: int = 1000, stdin: bytes = b"") -> Finished:
    return run_ffmpeg(["sh", "-c", script], deadline=time.monotonic() + seconds, max_output=max_output, stdin=stdin)


def running(word: str) -> bool:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def test_a_hang_is_killed_with_everything_it_started() -> None:
    started = time.monotonic()
    with pytest.raises(VideoError, match="took too long"):
        shell("sleep 4321.5 & sleep 4321.5", seconds=0.5)
    assert time.monotonic() - started < 15
    time.sleep(0.2)
    assert not running("4321.5")


def test_a_hang_after_closing_its_output_is_killed() -> None:
    with pytest.raises(VideoError, match="took too long"):
        shell("exec >&- 2>&-; sleep 4322.5", seconds=0.5)


def test_a_flood_is_stopped() -> None:
    with pytest.raises(VideoError, match="more than the 1000 bytes"):
        shell("yes")


def test_a_flood_of_log_is_forgotten() -> None:
    done = shell("head -c 30000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo '[error] the end' >&2; exit 3")
    assert (done.status, last_error(done.log)) == (3, "the end")
    assert len(done.log) < 100_000


def test_input_that_is_not_read_is_no_hang() -> None:
    assert shell("exit 0", stdin=b"x" * 5_000_000).status == 0
    assert bytes(shell("wc -c", stdin=b"x" * 5_000_000).output).strip() == b"5000000"


def test_standard_input_is_closed_otherwise() -> None:
    assert bytes(shell("cat; echo end").output) == b"end\n"


def test_no_file_can_be_written_and_memory_is_bounded(tmp_path: Path) -> None:
    done = shell(f"sleep 0.3; (echo secret > '{tmp_path}/written'); ulimit -v", max_output=10_000)
    assert int(done.output) == MAX_MEMORY // 1024
    assert not (tmp_path / "written").exists() or (tmp_path / "written").stat().st_size == 0


LOG = """\
[info] Input #0, avi, from 'x.avi':
[info]     title           : [error] not an error
[mpeg4 @ 0x55d0c0ffee00] [error] Error at MB: 12
[in#0/avi @ 0x55d0] [verbose]   Input stream #0:0 (video): 23 packets read (99 bytes); 20 frames decoded; 1 error;
[vist#0:0/mpeg4 @ 0x55d0] [dec:mpeg4 @ 0x55d1] [error] Task finished with error code: -22 (Invalid argument)
"""


def test_a_log_is_read_for_its_errors() -> None:
    assert last_error(LOG) == "Error at MB: 12"
    assert decoded_frames(LOG) == 20
    assert (last_error("[info] fine\n"), decoded_frames("")) == ("", None)
    assert last_error("[in#0 @ 0x1] [error] Error opening input: Invalid data found\n") == "Invalid data found"
    assert last_error("[error] file:/a: b/c.mp4: Invalid data found\n") == "Invalid data found"
    assert "too old" in last_error(
        "[error] Unrecognized option 'fps_mode'.\n[fatal] Error splitting: Option not found\n"
    )
