"""Headers and records check themselves, also those that a stranger wrote."""

import pytest
from mastaf.cache.errors import CacheError, CorruptStoreError
from mastaf.cache.store import ShardRecord, StoreHeader

SUM = "ab" * 32
RECORD = {
    "shard": 1,
    "generation": 2,
    "start": 4,
    "stop": 7,
    "states": [1, 2, 0],
    "reasons": {"5": "no video stream"},
    "notes": {"4": "short"},
    "sha256": [SUM, "", ""],
    "device": "cpu",
}


def _read(**changes):
    return ShardRecord.from_json(RECORD | changes, shard=1, rows=range(4, 7))


def test_record_round_trip():
    record = _read()
    assert record.reasons == {5: "no video stream"}
    assert record.to_json() == RECORD | {"seen": {}}  # a record of an earlier version has none
    seen = {"5": "1234 17 18"}
    assert _read(seen=seen).to_json() == RECORD | {"seen": seen}


@pytest.mark.parametrize(
    "changes",
    [
        {"shard": 2},
        {"shard": "1"},
        {"start": 3, "states": [1, 1, 2, 0], "sha256": [SUM, SUM, "", ""]},
        {"stop": 4},
        {"stop": 10**15},
        {"generation": -1},
        {"generation": 1.5},
        {"states": [1, 2]},
        {"states": [1, 2, 3]},
        {"states": [1, 2, -1]},
        {"states": None},
        {"reasons": {}},
        {"reasons": {"5": "a", "6": "b"}},
        {"reasons": {"5": 3}},
        {"reasons": {"five": "a"}},
        {"reasons": []},
        {"notes": {"7": "of another shard"}},
        {"seen": {"4": "of a row that did not fail"}},
        {"seen": ["1 2 3"]},
        {"notes": {"9" * 30: "x"}},
        {"sha256": ["", "", ""]},
        {"sha256": [SUM, SUM, ""]},
        {"sha256": [SUM.upper(), "", ""]},
        {"sha256": ["../../../etc/passwd", "", ""]},
        {"device": None},
        {"more": 1},
    ],
)
def test_damaged_records_are_refused(changes):
    with pytest.raises(CorruptStoreError):
        _read(**changes)


@pytest.mark.parametrize("value", [None, [], 3, {}, {"schema": 1}])
def test_what_is_no_record(value):
    with pytest.raises(CorruptStoreError):
        ShardRecord.from_json(value, shard=1, rows=range(4, 7))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compress": "gzip"}, "compress"),
        ({"shard_rows": 0}, r"shard_rows \(0\) must be at least 1"),
        ({"shard_rows": 1 << 20}, "lower --shard-rows"),
        ({"batch": 0}, "batch"),
        ({"threads": "2"}, "threads"),
        ({"flip_keeps_class": 1}, "flip_keeps_class"),
        ({"schema": 3}, r"schema \(3\) must be 2.*another version"),
        ({"coverage": ({"split": "train"},)}, "coverage"),
        ({"coverage": ({"split": "../x", "class": "a", "found": 1, "expected": 1},)}, "coverage"),
        ({"coverage": ({"split": "train", "class": "a", "found": "1", "expected": 1},)}, "coverage"),
    ],
)
def test_headers_check_themselves(make, changes, message):
    value = make.header().to_json()
    with pytest.raises(CacheError, match=message):
        make.header(**changes)
    with pytest.raises(CacheError, match=message):
        StoreHeader.from_json(value | changes)


def test_a_header_needs_a_spec(make):
    for value in (None, {}, [], make.header().to_json()):
        with pytest.raises(CacheError, match="the spec"):
            StoreHeader.from_json(make.header().to_json() | {"spec": value})


def test_header_round_trip(make):
    header = make.header(coverage=[{"split": "val", "class": "ä", "found": 1, "expected": 2}], provenance={"a": [1]})
    assert StoreHeader.from_json(header.to_json()) == header


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_provenance_must_be_json(make, value):
    with pytest.raises(CacheError, match="plain JSON"):
        make.header(provenance={"x": value}).to_json()


def test_a_header_of_another_schema_is_named_before_its_fields():
    with pytest.raises(CacheError, match=r"schema \(9\) must be 2"):
        StoreHeader.from_json({"schema": 9, "whatever": 1})


def test_a_huge_cube_is_refused_before_anything_is_allocated(make):
    with pytest.raises(CacheError, match="1024 MB a shard"):
        make.header(make.spec(cube_shape=(1 << 20, 1 << 20, 1, 1)), shard_rows=1)
