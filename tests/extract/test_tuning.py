"""How many decoders, and how long a queue."""

import math

from hypothesis import given
from hypothesis import strategies as st
from mastaf.extract.engine.tuning import Tuner


def tuned(decode, forward, *, workers=None, queue=None, most=16, batch=8, clip_bytes=1, batches=5):
    tuner = Tuner(workers=workers, queue=queue, most=most, batch=batch, clip_bytes=clip_bytes)
    for _ in range(batches):
        for _ in range(batch):
            tuner.decoded(decode)
        tuner.passed(batch, forward * batch)
    return tuner.ahead


def test_fast_forward_passes_get_every_decoder_and_slow_ones_few():
    assert tuned(0.1, 0.001).workers == 16
    assert tuned(0.1, 0.2).workers == 1
    assert tuned(0.1, 0.05).workers == math.ceil(1.25 * 2)


def test_all_decoders_work_until_something_was_measured():
    assert tuned(0.1, 0.2, batches=1).workers == 16


@given(
    st.floats(1e-4, 10),
    st.floats(1e-4, 10),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 1 << 26),
)
def test_the_decoders_keep_up_where_there_are_enough_and_memory_is_bounded(decode, forward, most, batch, clip_bytes):
    found = tuned(decode, forward, most=most, batch=batch, clip_bytes=clip_bytes)
    assert 1 <= found.workers <= most
    assert found.workers == most or found.workers / decode >= 1 / forward
    assert found.workers == 1 or (found.workers - 1) / decode < 1.3 / forward
    assert 1 <= found.in_flight <= max(batch + 2 * most + 4 * batch, 1)
    assert found.in_flight * clip_bytes <= max(1 << 30, clip_bytes)


@given(st.integers(1, 64), st.integers(1, 64))
def test_numbers_that_were_given_are_kept(workers, queue):
    found = tuned(0.1, 0.02, workers=workers, queue=queue)
    assert (found.workers, found.in_flight) == (workers, queue)


def test_one_slow_video_makes_the_queue_longer():
    tuner = Tuner(workers=None, queue=None, most=4, batch=4, clip_bytes=1)
    lengths = []
    for slow in (0.1, 0.1, 0.1, 3.0):
        tuner.decoded(slow)
        tuner.passed(4, 0.8)
        lengths.append(tuner.ahead.in_flight)
    assert lengths[-1] > lengths[1]
