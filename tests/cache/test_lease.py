"""The lease of a store in object storage: who holds it, when it ends, and what its loss does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from mastaf.cache import lease as lease_module
from mastaf.cache.errors import CacheError, StoppedError
from mastaf.cache.holder import Holder
from mastaf.cache.lease import _Lease, lease_url
from mastaf.cache.store import store_path, unlock, writer_lock

HERE = Holder.__dict__["here"]
HOLD = """
import sys, time
from mastaf.cache.store import store_path, writer_lock
with writer_lock(store_path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def place(bucket):
    return bucket.new_place() / "s.zarr"


@pytest.fixture
def quick(monkeypatch):
    """Leases that end after a second; a server's clock has no smaller part."""
    monkeypatch.setattr(lease_module, "RENEW_S", 0.25)


@pytest.fixture
def elsewhere(monkeypatch):
    """`with elsewhere():` this process is on another machine."""

    @contextmanager
    def pretend():
        here = Holder.here()
        changes = {"host": "node7", "boot": "other", "machine": "other", "token": os.urandom(9).hex()}
        other = Holder(**here.to_json() | changes)
        with monkeypatch.context() as patch:
            patch.setattr(Holder, "here", classmethod(lambda _cls: other))
            yield

    return pretend


@pytest.fixture
def leave(bucket):
    """`leave(place, ...)`: the lease of a process that was killed, with these changes of its record."""

    def left(place, **changes):
        with subprocess.Popen([sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(StoppedError, match=f"another process is writing .*pid {process.pid} on") as refused:
                takes(place)
            assert refused.value.exit_status == 75
            with pytest.raises(StoppedError, match="stop that process"):
                unlock(place, force=True)
            process.kill()
        record = json.loads(bucket.get(lease_url(place)))
        bucket.put(lease_url(place), json.dumps(record | {"holder": record["holder"] | changes}).encode())

    return left


def takes(place):
    with writer_lock(place):
        return True


def test_a_killed_holder_of_this_machine_is_followed_at_once(place, leave):
    leave(place)
    assert takes(place)
    assert takes(place)
    assert unlock(place, force=False) == f"{place} is not locked"


def test_a_killed_holder_may_be_unlocked(place, leave):
    leave(place)
    assert "is gone" in unlock(place, force=False)
    assert unlock(place, force=False) == f"{place} is not locked"


def test_a_holder_elsewhere_keeps_it_while_it_renews(place, quick, elsewhere):
    with elsewhere(), writer_lock(place):
        other = Holder.here()
        time.sleep(2.2)  # longer than a lease that nobody renews
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Holder, "here", HERE)
            for _ in range(2):
                with pytest.raises(StoppedError, match=f"pid {other.pid} on node7 since"):
                    takes(place)
            with pytest.raises(CacheError, match=r"cannot be checked from here.* unlock --force"):
                unlock(place, force=False)


def test_a_holder_elsewhere_that_renews_late_is_seen_alive(place, quick, elsewhere, monkeypatch):
    """By the clocks its lease has ended; watching it says otherwise."""
    monkeypatch.setattr(lease_module, "EXPIRES", -1)
    with elsewhere(), writer_lock(place), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Holder, "here", HERE)
        with pytest.raises(StoppedError, match="on node7 since"):
            takes(place)


def test_a_holder_elsewhere_that_died_is_followed_when_its_lease_ends(place, leave, quick):
    leave(place, host="node7", boot="other", machine="other")
    with pytest.raises(StoppedError, match="is writing"):
        takes(place)
    time.sleep(2.1)
    assert takes(place)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"holder": {"pid": 1}}', b"x" * 100_000])
def test_a_record_that_cannot_be_read_ends_like_a_lease(bucket, place, data):
    bucket.put(lease_url(place), data)
    with pytest.raises(StoppedError, match="no readable record"):
        takes(place)
    with pytest.raises(CacheError, match="make sure that it is gone"):
        unlock(place, force=False)
    assert "was not checked" in unlock(place, force=True)
    assert takes(place)


def test_one_of_many_takes_over(bucket, place, leave):
    leave(place)
    inside, most, refused = [], [], []
    start = threading.Barrier(6)

    def race():
        start.wait()
        try:
            with writer_lock(place):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.05)
                inside.pop()
        except StoppedError:
            refused.append(1)

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) + len(refused) == 6
    assert set(most) == {1}


def taken_by_others(bucket, url):
    record = json.loads(bucket.get(url))
    bucket.put(url, json.dumps(record | {"holder": record["holder"] | {"token": "x", "host": "node7"}}).encode())


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["usual", "nohup"])
def test_whose_lease_was_taken_is_interrupted(bucket, place, quick, handler):
    url, before = lease_url(place), signal.signal(signal.SIGINT, handler)
    try:
        lost = r"lease of .* was lost \(taken over by pid .* on node7"
        with pytest.raises(StoppedError, match=lost), writer_lock(place):
            taken_by_others(bucket, url)
            time.sleep(10)
            pytest.fail("it went on")
    finally:
        assert signal.signal(signal.SIGINT, before) is handler
    assert json.loads(bucket.get(url))["holder"]["host"] == "node7"  # and it does not give back what is not its own


def test_whose_lease_was_taken_writes_nothing_more(bucket, place, quick, make):
    """Also where no signal can end it, because the lease is held by another thread than the main one."""
    said: list[str] = []

    def hold():
        with pytest.raises(StoppedError) as stopped, writer_lock(place):
            store = make.empty(place)
            make.write(store, 0)
            taken_by_others(bucket, lease_url(place))
            end = time.monotonic() + 30
            while "lease" in {thread.name for thread in threading.enumerate()}:  # it renews until it sees that
                assert time.monotonic() < end
                time.sleep(0.05)
            said.append("lost")
            make.write(store, 1)
        said.append(str(stopped.value))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert said[0] == "lost"
    assert "was lost (taken over by pid" in said[1]
    objects = bucket.objects(place)
    assert "shards/00000/zarr.json" in objects
    assert not [name for name in objects if "00001" in name or name.startswith("cubes/c.1")]


def test_a_lease_that_cannot_be_renewed_is_lost(place, quick, monkeypatch):
    def cut(_self):
        raise StoppedError("the network went away")

    monkeypatch.setattr(_Lease, "renew", cut)
    with pytest.raises(StoppedError, match="the network went away"), writer_lock(place):
        time.sleep(30)
        pytest.fail("it went on")


def test_an_answer_that_was_lost_is_no_other_holder(place, monkeypatch):
    """A put that arrived, and is sent again because its answer did not, meets itself."""
    put = _Lease.put

    def twice(self, data, *, instead_of):
        put(self, data, instead_of=instead_of)
        return put(self, data, instead_of=instead_of)

    with monkeypatch.context() as patch:
        patch.setattr(_Lease, "put", twice)
        with writer_lock(place):
            pass
    assert unlock(place, force=False) == f"{place} is not locked"


def test_no_bucket_is_no_lock(bucket):
    with pytest.raises(CacheError, match="bucket 'nowhere' does not exist"):
        takes(store_path("s3://nowhere/s.zarr"))
