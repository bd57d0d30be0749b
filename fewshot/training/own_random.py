"""torch's random state of one run, when several take turns."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class OwnRandom:
    """A random state that moves on inside `with own.state():` alone; it starts as torch's is now."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._state = self._get()

    @contextmanager
    def state(self) -> Iterator[None]:
        """Draw from this state; what was there before comes back."""
        outer = self._get()
        self._set(self._state)
        try:
            yield
        finally:
            self._state = self._get()
            self._set(outer)

    def _get(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return torch.get_rng_state(), cuda

    def _set(self, state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self._device)
