"""Stores of random shapes, shard sizes and histories against the simplest model: a dictionary of rows."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.cache.convert import convert_store
from mastaf.cache.index import DONE, FAILED, MISSING
from mastaf.cache.store import open_store
from mastaf.cache.verify import verify_store

SIDES = st.integers(1, 3)
VIEWS = st.sampled_from([("plain",), ("plain", "flip"), ("plain", "flip", "topleft+t1")])


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=st.tuples(SIDES, SIDES, SIDES, SIDES), views=VIEWS, n=st.integers(1, 9))
def test_any_history_of_writes(data, make, kind, shape, views, n):
    suffix, compress = kind
    rows = data.draw(st.integers(1, 12), label="shard_rows")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"s{suffix}"
        store = make.empty(path, n=n, compress=compress, shard_rows=rows, spec=make.spec(shape, views))
        truth = np.random.default_rng(n).normal(size=(n, *store.spec.row_shape)).astype("<f2")
        states = np.zeros(n, np.uint8)
        generations = {}
        for shard in data.draw(st.lists(st.integers(0, store.n_shards - 1), max_size=5), label="writes"):
            part = store.shard_range(shard)
            for row in part:
                if states[row] != DONE:
                    states[row] = data.draw(st.sampled_from([MISSING, DONE, FAILED]), label=f"row {row}")
            reasons = {row: f"reason {row}" for row in part if states[row] == FAILED}
            store.write_shard(shard, truth[part], states=states[part], reasons=reasons, notes={}, device="cpu")
            generations[shard] = generations.get(shard, -1) + 1
        _check(open_store(path), truth, states, generations)
        other = Path(folder) / ("t.h5" if suffix == ".zarr" else "t.zarr")
        _check(convert_store(path, other), truth, states, generations)


def _check(store, truth, states, generations):
    np.testing.assert_array_equal(store.states(), states)
    assert {record.shard: record.generation for record in store.records()} == generations
    assert set(store.reasons()) == set(np.flatnonzero(states == FAILED))
    done = np.flatnonzero(states == DONE)[::-1]
    for view in range(len(store.spec.views)):
        np.testing.assert_array_equal(store.read(done, view), truth[done, view])
    for shard in generations:
        rows = store.shard_range(shard)
        expected = np.where((states[rows] == DONE)[:, None, None, None, None, None], truth[rows], 0)
        np.testing.assert_array_equal(store.read_shard(shard), expected)
        if store.mapped(shard) is not None:
            np.testing.assert_array_equal(store.mapped(shard), expected)
    assert verify_store(store) == []
