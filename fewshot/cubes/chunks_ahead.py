"""Chunks whose relation maps are made while earlier ones are worked on."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import torch

from ..buffers import Buffers
from ..threads import one_thread
from .bank import FeatureBank
from .chunk import Chunk

_MOST = 8  # threads, each with a chunk's cubes


def can_make_ahead(bank: FeatureBank) -> bool:
    """Whether several threads may read the bank at once, and there are several."""
    return bank.device.type == "cpu" and bank.residence.kind == "ram" and torch.get_num_threads() > 1


def made_ahead(bank: FeatureBank, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The chunks of a bank, in their order, each with its relation maps; a chunk's memory is another's after it.

    Maps depend on no weights, so they can be made early: each by one thread, because torch's threads wait for each
    other at the end of every product. Heads then work with `threads_of`.
    """
    bank.load()
    _ = bank.self_maps  # once, and not by all threads
    threads = min(torch.get_num_threads(), _MOST)
    free, coming = deque(Buffers() for _ in range(threads + 1)), deque[tuple[Chunk, Future[None]]]()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        while True:
            while free and (chunk := next(chunks, None)) is not None:
                chunk.map_buffers = free.popleft()
                coming.append((chunk, pool.submit(_make, chunk)))
            if not coming:
                return
            chunk, made = coming.popleft()
            made.result()
            yield chunk
            chunk.close()
            free.append(chunk.map_buffers)


def threads_of(bank: FeatureBank, *, reads_maps: bool) -> AbstractContextManager[None]:
    """Torch's threads for a head: one if it reads maps, because others make those of later chunks.

    That depends on no other head: its bits are the same alone and beside others.
    """
    return one_thread() if reads_maps and can_make_ahead(bank) else nullcontext()


def _make(chunk: Chunk) -> None:
    with torch.no_grad():  # each thread has its own mode
        chunk.make_maps()
