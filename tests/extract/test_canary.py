"""Playlists named .mp4: nothing that they name is opened, no file and no address. A plain ffmpeg opens all of it."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.decoding.pixels import PixelRule
from mastaf.extract.errors import VideoError


class FileCanary:
    """A named pipe: whoever opens it for reading lets the thread's opening for writing return."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path, self.opened = path, threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        self.opened.set()
        os.close(descriptor)

    def release(self) -> None:
        if not self.opened.is_set():
            os.close(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK))
        self._thread.join(10)


class SocketCanary:
    """A listening socket that answers nobody; `touched` says whether somebody came."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]

    def touched(self) -> bool:
        self._server.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            self._server.accept()[0].close()
            return True
        return False

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def canary_file(tmp_path: Path) -> Iterator[FileCanary]:
    canary = FileCanary(tmp_path / "canary.ts")
    yield canary
    canary.release()


@pytest.fixture
def canary_socket() -> Iterator[SocketCanary]:
    canary = SocketCanary()
    yield canary
    canary.close()


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
KEYED = '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI="{0}"\n#EXTINF:2,\n{0}\n#EXT-X-ENDLIST\n'
CONCAT = "ffconcat version 1.0\nfile {}\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {} RTP/AVP 33\n"
FILE_LISTS = {"hls": HLS, "master": MASTER, "key": KEYED, "concat": CONCAT}


def plain_ffmpeg(path: Path) -> None:
    """What a careless program does."""
    everything = ("-protocol_whitelist", "file,crypto,http,tcp,data", "-allowed_extensions", "ALL", "-safe", "0")
    for options in (everything[:4], everything[:2] + everything[4:]):
        command = [ffmpeg_exe(), "-nostdin", *options, "-i", str(path), "-f", "null", "-"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=1.5, check=False)


@pytest.mark.parametrize("extension", ["mp4", "m3u8", "avi"])
@pytest.mark.parametrize("kind", FILE_LISTS)
def test_no_other_file_is_opened(
    kind: str, extension: str, canary_file: FileCanary, tmp_path: Path, rule: PixelRule
) -> None:
    path = tmp_path / f"list.{extension}"
    for name in ("canary.ts", f"file://{canary_file.path}", str(canary_file.path)):
        path.write_text(FILE_LISTS[kind].format(name))
        with pytest.raises(VideoError, match=r"not a (video|format) that"):
            decode_clip(path, frames=4, rule=rule, timeout_s=20)
    assert not canary_file.opened.wait(0.05)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
@pytest.mark.parametrize("kind", FILE_LISTS)
def test_no_address_is_asked(
    kind: str, scheme: str, canary_socket: SocketCanary, tmp_path: Path, rule: PixelRule
) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(FILE_LISTS[kind].format(f"{scheme}://127.0.0.1:{canary_socket.port}/x.ts"))
    with pytest.raises(VideoError, match=r"not a (video|format) that"):
        decode_clip(path, frames=4, rule=rule, timeout_s=20)
    assert not canary_socket.touched()


def test_the_canaries_sing(canary_file: FileCanary, canary_socket: SocketCanary, tmp_path: Path) -> None:
    """Without this, the tests above would also pass with canaries that notice nothing."""
    path = tmp_path / "list.m3u8"
    path.write_text(HLS.format(canary_file.path.name))
    plain_ffmpeg(path)
    assert canary_file.opened.wait(1)
    path.write_text(HLS.format(f"http://127.0.0.1:{canary_socket.port}/x.ts"))
    plain_ffmpeg(path)
    time.sleep(0.05)
    assert canary_socket.touched()
