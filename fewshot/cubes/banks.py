"""The banks of one store, each opened once, however many heads draw from them."""

from collections.abc import Sequence

import torch

from ...cache import console
from ...cache.store import Store
from ..errors import FewShotError
from ..training.optimisation import PRECISIONS
from .bank import FeatureBank


def bank_dtype(precision: str) -> torch.dtype:
    """The type in which a bank holds cubes whose products are wanted in this precision."""
    if precision not in PRECISIONS:
        raise FewShotError(f"precision ({precision}) must be one of {', '.join(PRECISIONS)}")
    return torch.bfloat16 if precision == "bf16" else torch.float16


class Banks:
    """Opens the splits of a store with the same options; see `FeatureBank` for them. say: print where cubes stay."""

    def __init__(
        self,
        store: Store,
        *,
        device: torch.device | str = "cpu",
        allow_partial: bool = False,
        bank: str | None = None,
        say: bool = False,
    ) -> None:
        self.store, self.device = store, torch.device(device)
        self._allow_partial, self._bank, self._say = allow_partial, bank, say
        self._open: dict[tuple[str, tuple[int, ...], torch.dtype], FeatureBank] = {}
        self._said: set[str] = set()

    def open(self, split: str, *, views: Sequence[int] = (0,), dtype: torch.dtype = torch.float16) -> FeatureBank:
        """The bank of a split. Raises FewShotError as `FeatureBank` does."""
        name = (split, tuple(views), dtype)
        if name not in self._open:
            self._open[name] = FeatureBank(
                self.store,
                split,
                views=views,
                allow_partial=self._allow_partial,
                bank=self._bank,
                device=self.device,
                dtype=dtype,
            )
        return self._open[name]

    def announce(self, bank: FeatureBank) -> None:
        """Say once where the cubes of a bank stay."""
        self.note(f"{bank.split}: {len(bank)} videos, cubes in {bank.residence}")

    def note(self, words: str) -> None:
        """Say a line once, however many runs it is true of."""
        if self._say and words not in self._said:
            self._said.add(words)
            console.say(words)
