"""Chunks whose relation maps are made while earlier ones are worked on."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from .bank import FeatureBank
from .buffers import Buffers
from .chunk import Chunk


def can_make_ahead(bank: FeatureBank) -> bool:
    """Whether several threads may read the bank at once, and there are several."""
    return bank.device.type == "cpu" and bank.residence.kind == "ram" and torch.get_num_threads() > 1


def made_ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The chunks, in their order, each with its relation maps; a chunk's memory is another's after it.

    Maps depend on no weights, so they can be made early: each by one thread, because torch's threads wait for each
    other at the end of every product. Who works on the chunks does well to do that with one thread, too.
    """
    threads = torch.get_num_threads()
    free, coming = deque(Buffers() for _ in range(threads + 1)), deque[tuple[Chunk, Future[None]]]()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        while True:
            while free and (chunk := next(chunks, None)) is not None:
                chunk.buffers = free.popleft()
                coming.append((chunk, pool.submit(_make, chunk)))
            if not coming:
                return
            chunk, made = coming.popleft()
            made.result()
            yield chunk
            chunk.close()
            free.append(chunk.buffers)


def _make(chunk: Chunk) -> None:
    with torch.no_grad():  # each thread has its own mode
        chunk.make_maps()
