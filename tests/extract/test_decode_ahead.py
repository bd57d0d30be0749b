"""Decoding in threads: order, bounds, failures, early ends."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mastaf.extract.decoding.decode")
from mastaf.extract.decoding.decode import Clip
from mastaf.extract.decoding.decode_ahead import DecodeAhead
from mastaf.extract.decoding.ffmpeg import run_ffmpeg
from mastaf.extract.errors import VideoError


def ahead(rows, load, workers, in_flight):
    return DecodeAhead(rows, load, threads=workers, workers=workers, in_flight=in_flight)


def clip(row):
    return Clip(np.full((1, 1, 1, 1, 3), row % 256, np.uint8), "")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_clips_come_in_order_whatever_takes_long(workers):
    def load(row):
        time.sleep(0.02 if row % 3 == 0 else 0)
        return clip(row)

    rows = [7, 3, 9, 0, 1, 2, 8, 4]
    found = list(ahead(rows, load, workers, 4))
    assert [d.row for d in found] == rows
    assert [int(d.clip.views[0, 0, 0, 0, 0]) for d in found if d.clip] == rows


@pytest.mark.parametrize(("workers", "in_flight"), [(1, 1), (3, 1), (3, 4), (8, 2)])
def test_no_more_clips_are_decoded_than_may_be_in_flight(workers, in_flight):
    begun, lock = [], threading.Lock()

    def load(row):
        with lock:
            begun.append(row)
        return clip(row)

    most = 0
    with_taken = ahead(range(30), load, workers, in_flight)
    for taken, _ in enumerate(with_taken, start=1):
        time.sleep(0.002)  # the consumer is the slow one
        with lock:
            most = max(most, len(begun) - taken)
    assert len(begun) == 30
    assert most <= in_flight


@pytest.mark.parametrize("workers", [1, 3])
def test_a_video_error_is_a_reason_and_another_error_is_the_end(workers):
    def load(row):
        if row == 1:
            raise VideoError("moov atom\n not found" + "x" * 5000)
        if row == 3:
            raise RuntimeError("a fault")
        return clip(row)

    found = []
    with pytest.raises(RuntimeError, match="a fault"):
        for decoded in ahead(range(20), load, workers, 2):
            found.append(decoded)
    assert [d.clip is None for d in found] == [False, True, False][: len(found)]
    if len(found) > 1:
        assert found[1].reason.startswith("moov atom not found")
        assert len(found[1].reason) < 500


@pytest.mark.parametrize("workers", [1, 3])
def test_closing_early_starts_nothing_more_and_does_not_hang(workers):
    begun = []

    def load(row):
        begun.append(row)
        return clip(row)

    clips = ahead(range(1000), load, workers, 3)
    next(clips)
    clips.close()
    time.sleep(0.05)
    count = len(begun)
    assert count <= 1 + 3
    time.sleep(0.05)
    assert len(begun) == count


def test_closing_early_kills_what_decoders_started():
    def load(row):
        if row:
            run_ffmpeg(["sleep", "4326.25"], deadline=time.monotonic() + 60, max_output=10)
        return clip(row)

    def running():
        return [p for p in Path("/proc").glob("[0-9]*/cmdline") if _holds(p, b"4326.25")]

    clips = ahead(range(3), load, 3, 3)
    next(clips)
    while len(running()) < 2:
        time.sleep(0.01)
    start = time.monotonic()
    clips.close()
    assert running() == []
    assert time.monotonic() - start < 8  # it did not give up waiting


def _holds(path, word):
    try:
        return word in path.read_bytes()
    except OSError:
        return False


def test_an_interrupt_while_waiting_ends_at_once():
    release = threading.Event()

    def load(row):
        if row == 0:
            release.wait(5)
            raise KeyboardInterrupt
        return clip(row)

    threading.Timer(0.05, release.set).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(ahead(range(100), load, 3, 2))
    assert time.monotonic() - start < 3


def test_the_number_of_decoders_and_the_queue_can_change_on_the_way():
    at_work, most, lock = 0, 0, threading.Lock()

    def load(row):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.003)
        with lock:
            at_work -= 1
        return clip(row)

    clips = DecodeAhead(range(60), load, threads=6, workers=1, in_flight=8)
    found = [next(clips).row for _ in range(10)]
    assert most == 1
    clips.resize(workers=4, in_flight=12)
    found += [next(clips).row for _ in range(20)]
    assert 1 < most <= 4
    time.sleep(0.05)  # whatever had begun ends
    most = 0
    clips.resize(workers=2, in_flight=64)
    found += [decoded.row for decoded in clips]
    assert most <= 2
    assert found == list(range(60))
