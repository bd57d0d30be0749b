"""Several processes that train one network: who they are, what they tell each other, and whether they are alike.

They are started by torchrun, which also starts them anew when one is lost; the run then goes on from its state.
"""

import atexit
import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ...cache.checks import json_digest
from ...cache.errors import StoppedError
from ..errors import PipelineError

Loss = Callable[[Any], tuple[Tensor, dict[str, float]]]

_GONE = ("gloo", "nccl", "connection", "socket", "broken pipe", "peer", "timed out")  # words of a lost process
_PATIENCE = timedelta(hours=2)  # while one process decodes or scores val, the others wait


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run. Process 0 alone writes."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def sum(self, values: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Each number's sum over the processes."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64 if device.type == "cpu" else torch.float32)
        total = total.to(device)
        with gone_is_stopped():
            distributed.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def of_first(self, value: Any) -> Any:
        """What process 0 has."""
        if self.size == 1:
            return value
        held = [value]
        with gone_is_stopped():
            distributed.broadcast_object_list(held, src=0)
        return held[0]

    def mean_statistics(self, modules: Iterable[nn.Module]) -> None:
        """Let the running statistics of every process be their mean."""
        if self.size == 1:
            return
        for module in modules:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    with gone_is_stopped():
                        distributed.all_reduce(buffer)
                    buffer /= self.size

    def require_alike(self, what: Mapping[str, str]) -> None:
        """Raise PipelineError in every process unless all have the same of each, by name."""
        if self.size == 1:
            return
        found: list[Any] = [None] * self.size
        with gone_is_stopped():
            distributed.all_gather_object(found, dict(what))
        for rank, other in enumerate(found):
            differing = [name for name in found[0] if other.get(name) != found[0][name]]
            if differing:
                raise PipelineError(
                    f"process {rank} of {self.size} has other {' and '.join(differing)} than process 0; start all of "
                    "them with the same command, code and videos"
                )

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let process 0 run the block before the others do, so that they find what it made."""
        if self.size > 1 and not self.writes:
            self._wait()
        try:
            yield
        finally:
            if self.size > 1 and self.writes:
                self._wait()

    def _wait(self) -> None:
        with gone_is_stopped():
            distributed.all_reduce(torch.zeros(1, device=_device()))


def join_ranks(device: str) -> tuple[Ranks, str]:
    """Join the processes that torchrun started, or be the only one; and the device: its own GPU for each of them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks(), device
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        with gone_is_stopped():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
        atexit.register(distributed.destroy_process_group)
    # Weights with channels last have gradients of other strides than the buckets they travel in: slower, no fault.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return Ranks(distributed.get_rank(), size), device


def code_digest() -> str:
    """sha256 (hex) of the code that runs: every source file of the packages, and torch's version."""
    root, total = Path(__file__).parents[2], hashlib.sha256(torch.__version__.encode())
    for package in ("cache", "extract", "fewshot", "pipelines"):
        for path in sorted((root / package).rglob("*.py")):
            total.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return total.hexdigest()


def data_digest(value: Mapping[str, Any]) -> str:
    """sha256 (hex) of plain JSON values."""
    return json_digest(value)


@contextmanager
def gone_is_stopped() -> Iterator[None]:
    """Turn the failure of a collective inside the block, by which a lost process shows, into a StoppedError."""
    try:
        yield
    except RuntimeError as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not isinstance(error, distributed.DistError) and not any(word in str(error).lower() for word in _GONE):
            raise
        raise StoppedError(
            f"another process of the run is gone ({first}); the same command continues from the last state"
        ) from error


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


class Objective(nn.Module):
    """A task's loss as a module of what it trains."""

    def __init__(self, modules: Mapping[str, nn.Module], loss: Loss) -> None:
        super().__init__()
        self.trained = nn.ModuleDict(modules)
        self._loss = loss

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """See `Task.loss`."""
        return self._loss(batch)

    def alone(self, alone: bool) -> AbstractContextManager[None]:
        """The context of a part's gradients; `alone` keeps them in this process until those of a later part."""
        return nullcontext()


class SharedObjective(DistributedDataParallel):
    """The same in several processes: the last part's gradients leave the mean over all of them."""

    def alone(self, alone: bool) -> AbstractContextManager[None]:
        """See `Objective`."""
        return self.no_sync() if alone else nullcontext()


def share_gradients(modules: Mapping[str, nn.Module], loss: Loss, ranks: Ranks) -> Objective | SharedObjective:
    """The loss of a task, whose gradients are means over all processes."""
    objective = Objective(modules, loss)
    if ranks.size == 1:
        return objective
    with gone_is_stopped(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the name that torch 2.13 wants is unknown to older ones
        # Statistics are averaged once an update, and a head may leave parameters without a gradient.
        return SharedObjective(objective, broadcast_buffers=False, find_unused_parameters=True)
