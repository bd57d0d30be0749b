"""Marks of shards at work: what a worker learns of those before it, and when it has been given up."""

import json

import pytest
from mastaf.cache.attempts import NO_ROW, Attempt, Attempts, try_writing
from mastaf.cache.errors import CacheError
from mastaf.cache.store import open_store


@pytest.fixture
def marks(tmp_path):
    made = Attempts(tmp_path / "s.zarr")
    made.open_run("one")
    return made


def test_a_shard_that_was_begun_and_not_ended_is_counted(marks):
    assert [marks.begin(3, "one").tries for _ in range(3)] == [1, 2, 3]
    assert marks.begin(4, "one").tries == 1
    marks.end(marks.begin(3, "one"))
    assert marks.begin(3, "one").tries == 1


def test_another_run_blames_nobody(marks):
    marks.at_row(marks.begin(3, "one"), 7)
    found = marks.begin(3, "two")
    assert (found.tries, found.blamed, found.row) == (1, (), NO_ROW)


def test_rows_at_which_workers_ended_are_remembered(marks):
    marks.at_row(marks.begin(3, "one"), 7)
    second = marks.begin(3, "one")
    assert second.blamed == (7,)
    marks.at_row(marks.at_row(second, 8), 9)
    assert marks.begin(3, "one").blamed == (7, 9)
    assert marks.begin(3, "one").blamed == (7, 9)


def test_a_worker_holds_its_shard_until_another_begins_it_or_the_run_ends(marks, tmp_path):
    first = marks.begin(3, "one")
    assert marks.holds(first)
    assert marks.holds(marks.at_row(first, 8))
    second = marks.begin(3, "one")
    assert (marks.holds(first), marks.holds(second)) == (False, True)
    assert marks.is_open("one")
    marks.open_run("two")
    assert (marks.holds(second), marks.is_open("one"), marks.is_open("two")) == (False, False, True)
    marks.clear()
    assert (marks.is_open("two"), (tmp_path / "s.zarr.attempts").exists()) == (False, False)
    marks.clear()


def test_a_run_that_lost_its_store_does_not_end_the_next_one(marks):
    marks.open_run("two")
    held = marks.begin(3, "two")
    marks.close_run("one")
    assert marks.holds(held)
    assert marks.is_open("two")
    marks.close_run("two")
    assert not marks.holds(held)
    late = marks.begin(4, "two")
    marks.close_run("two")
    assert not marks.holds(late)


@pytest.mark.parametrize("content", ["", "[1]", "{}", "\x00", '{"shard": 3}'])
def test_a_damaged_mark_is_none(marks, tmp_path, content):
    marks.begin(3, "one")
    (tmp_path / "s.zarr.attempts" / "00003.json").write_text(content)
    assert marks.begin(3, "one").tries == 1


@pytest.mark.parametrize("wrong", [{"blamed": 5}, {"blamed": ["7"]}, {"tries": "x"}, {"row": None}, {"holder": 1}])
def test_a_mark_with_a_value_of_another_type_is_none(marks, tmp_path, wrong):
    held = marks.begin(3, "one")
    path = tmp_path / "s.zarr.attempts" / "00003.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    assert not marks.holds(held)
    assert marks.begin(3, "one").tries == 1


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_the_place_of_the_marks_is_refused_and_left_alone(tmp_path, dangling):
    other, place = tmp_path / "other", tmp_path / "s.zarr.attempts"
    if not dangling:
        other.mkdir()
        (other / "00003.json").write_text("mine")
    place.symlink_to(other)
    marks = Attempts(tmp_path / "s.zarr")
    held = Attempt(shard=3, run="one", holder="x", tries=1)
    for use in (
        marks.clear, marks.probe, lambda: marks.open_run("one"), lambda: marks.close_run("one"),
        lambda: marks.begin(3, "one"), lambda: marks.end(held), lambda: marks.is_open("one"),
    ):  # fmt: skip
        with pytest.raises(CacheError, match=r"s\.zarr\.attempts must be a folder of marks, and no link or file"):
            use()
    assert place.is_symlink()
    assert dangling is not other.exists()
    assert dangling or [path.read_text() for path in other.iterdir()] == ["mine"]


def test_a_file_in_the_place_of_the_marks_is_refused(tmp_path):
    (tmp_path / "s.zarr.attempts").write_text("mine")
    with pytest.raises(CacheError, match=r"s\.zarr\.attempts must be a folder"):
        Attempts(tmp_path / "s.zarr").open_run("one")
    assert (tmp_path / "s.zarr.attempts").read_text() == "mine"


def test_marks_are_beside_the_store_and_no_part_of_it(make_store, tmp_path):
    store = make_store(tmp_path / "s.zarr", videos=1)
    before = sorted(path for path in store.path.rglob("*"))
    Attempts(store.path).open_run("one")
    Attempts(store.path).begin(0, "one")
    try_writing(store)
    assert sorted(path for path in store.path.rglob("*")) == before
    assert sorted(path.name for path in (tmp_path / "s.zarr.attempts").iterdir()) == ["00000.json", "run.json"]
    assert (open_store(store.path).states() == store.states()).all()
