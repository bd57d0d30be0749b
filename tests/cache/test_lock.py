"""The lock of a store's one writer: who holds it, when it is taken over, and when it is not."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from mastaf.cache.errors import CacheError, StoppedError
from mastaf.cache.lock import unlock_folder
from mastaf.cache.store import writer_lock

HOLD = """
import sys, time
from pathlib import Path
from mastaf.cache.store import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
RACE = """
import sys, time
from pathlib import Path
from mastaf.cache.errors import StoppedError
from mastaf.cache.store import writer_lock
for _ in range(int(sys.argv[3])):
    try:
        with writer_lock(Path(sys.argv[1])):
            with open(sys.argv[2], "x"):
                time.sleep(0.001)
            Path(sys.argv[2]).unlink()
    except StoppedError:
        pass
"""


@contextmanager
def holder(path):
    """A process that holds the lock of `path`, until the block ends or the process does."""
    arguments = [sys.executable, "-c", HOLD, str(path), "--some option"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.zarr"


@pytest.fixture
def lock(path):
    return path.with_name("s.zarr.lock")


def left_by(path, lock, **changes):
    """Leave a dead process's lock at `path`, with these changes of its record."""
    with holder(path) as process:
        process.kill()
    record = json.loads(lock.read_text())
    lock.write_text(json.dumps(record | changes))
    return record | changes


def takes(path):
    with writer_lock(path):
        return True


def test_the_second_is_told_who_holds_it(path, lock):
    with holder(path) as process:
        record = json.loads(lock.read_text())
        with pytest.raises(StoppedError, match="another process is writing") as refused:
            takes(path)
        with pytest.raises(StoppedError, match="stop that process"):
            unlock_folder(path, force=True)
        for word in (str(path), f"pid {process.pid} on {record['host']}", record["since"], "--some option"):
            assert word in str(refused.value)
    assert refused.value.exit_status == 75


def test_it_leaves_no_file(path, lock):
    with writer_lock(path):
        assert [entry.name for entry in path.parent.iterdir()] == [lock.name]
    assert list(path.parent.iterdir()) == []
    assert unlock_folder(path, force=False) == f"{path} is not locked"


def test_a_killed_holder_is_followed_at_once(path, lock):
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads(lock.read_text())["pid"] == process.pid
        assert takes(path)
    left_by(path, lock)
    assert "is gone" in unlock_folder(path, force=False)
    assert list(path.parent.iterdir()) == []


def test_what_killed_makers_left_is_swept_and_what_is_at_work_is_not(path, lock):
    left, busy = (lock.with_name(f".{lock.name}.{letters}") for letters in ("aa", "bb"))
    left.touch()
    with busy.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with writer_lock(path):
            assert (left.exists(), busy.exists()) == (False, True)


def test_a_maker_whose_file_was_swept_tries_again(path, monkeypatch):
    def swept(*_arguments: object) -> None:  # as by a holder that lists the folder before the new file is flocked
        monkeypatch.undo()
        for entry in path.parent.iterdir():
            entry.unlink()

    monkeypatch.setattr(fcntl, "flock", swept)
    assert takes(path)


def test_all_names_of_a_folder_have_one_lock(path, tmp_path):
    other = tmp_path / "other" / "link.zarr"
    other.parent.mkdir()
    other.symlink_to(path)
    with writer_lock(other), pytest.raises(StoppedError, match="another process is writing"):
        takes(path)
    assert takes(path)


def test_a_folder_that_cannot_be_listed(path, lock, monkeypatch):
    def refuse(*_names: object) -> None:
        raise PermissionError(13, "not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        patch.setattr(os, "scandir", refuse)
        assert takes(path)
    assert not lock.exists()


def test_a_number_that_another_process_has_now_is_no_holder(path, lock):
    left_by(path, lock, pid=os.getpid())
    assert takes(path)


def test_a_machine_that_was_restarted_has_no_holders(path, lock):
    record = left_by(path, lock)
    if not record["machine"]:
        pytest.skip("this machine has no identity")
    lock.write_text(json.dumps(record | {"boot": "an earlier one", "pid": os.getpid()}))
    assert takes(path)


def test_a_holder_on_another_machine_is_not_judged(path, lock):
    left_by(path, lock, host="node7", machine="other", boot="other", since="2026-01-02T03:04:05+00:00")
    for _ in range(2):
        with pytest.raises(StoppedError, match=r"may be writing .* on node7 since 2026-01-02.*unlock --force"):
            takes(path)
    with pytest.raises(CacheError, match="make sure that it is gone, then: mastaf-cache unlock --force"):
        unlock_folder(path, force=False)
    assert lock.exists()
    assert "was not checked" in unlock_folder(path, force=True)
    assert takes(path)


def test_a_disk_without_the_systems_locks(path, lock, monkeypatch):
    def none(_descriptor: int, _operation: int) -> None:
        raise OSError(38, "not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with holder(path) as process:
        with pytest.raises(StoppedError, match=f"another process is writing .*pid {process.pid}"):
            takes(path)
        process.kill()
        process.wait()
        assert takes(path)
    lock.write_text("half a rec")
    with pytest.raises(StoppedError, match="no readable record"):
        takes(path)
    assert "was not checked" in unlock_folder(path, force=True)


def test_a_disk_without_second_names(path, lock, monkeypatch):
    def none(*_names: object, **_options: object) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr(os, "link", none)
    with writer_lock(path), pytest.raises(StoppedError, match=f"pid {os.getpid()} "):
        takes(path)
    left_by(path, lock)
    assert takes(path)


@pytest.mark.parametrize("text", ["", '{"token": "ab", "ho', "[]", '{"pid": "x"}', "\0\0"])
def test_a_record_half_written_is_of_a_machine_that_died(path, lock, text):
    lock.write_text(text)
    assert takes(path)
    lock.write_text(text)
    with lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(StoppedError, match="no readable record"):
            takes(path)


def test_a_strangers_record_cannot_command_the_terminal(path, lock):
    left_by(path, lock, host="\x1b[2Jnode", boot="other", machine="other", command="x" * 5000)
    with pytest.raises(StoppedError) as refused:
        takes(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("made", ["link", "dangling", "folder", "pipe"])
def test_what_is_no_lock_file_is_neither_followed_nor_removed(path, lock, tmp_path, made):
    other = tmp_path / "other"
    other.write_text("mine")
    if made == "folder":
        lock.mkdir()
    elif made == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(other if made == "link" else tmp_path / "nothing")
    for call in (takes, lambda path: unlock_folder(path, force=True)):
        with pytest.raises(CacheError, match=r"lock.*remove it"):
            call(path)
    assert os.path.lexists(lock)
    assert other.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_takes_no_files(path, monkeypatch):
    def refuse(name: object, flags: int, *rest: object, **options: object) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return opened(name, flags, *rest, **options)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CacheError, match="no file can be made in"):
        takes(path)


def test_a_full_disk_leaves_no_lock(path, monkeypatch):
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoppedError, match="the disk is full"):
            takes(path)
    assert list(path.parent.iterdir()) == []


def test_one_of_many_takes_over(path, lock, tmp_path):
    left_by(path, lock)
    inside = tmp_path / "inside"
    racers = [subprocess.Popen([sys.executable, "-c", RACE, str(path), str(inside), "150"]) for _ in range(4)]
    assert [racer.wait(60) for racer in racers] == [0] * 4  # two at once: the second finds `inside`, and fails
    assert list(tmp_path.iterdir()) == []


def test_whose_lock_was_removed_does_not_remove_the_next_ones(path, lock):
    with writer_lock(path):
        lock.unlink()
        with writer_lock(Path(path)):
            record = lock.read_text()
            with pytest.raises(StoppedError):
                takes(path)
            assert lock.read_text() == record
        lock.write_text("the next one's")
    assert lock.read_text() == "the next one's"


@pytest.mark.parametrize("taken", [False, True], ids=["removed", "taken over"])
def test_whose_lock_was_removed_writes_nothing_more(tmp_path, suffix, make, taken):
    """`unlock --force`, on another machine, of a holder that was alive after all."""
    path = tmp_path / f"s{suffix}"
    with pytest.raises(StoppedError, match=r"lock of .* was removed, or another process has it"), writer_lock(path):
        store = make.empty(path)
        make.write(store, 0)
        path.with_name(path.name + ".lock").unlink()
        with holder(path) if taken else nullcontext():
            before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
            try:
                make.write(store, 1)
            finally:
                assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
