"""Which seeds of training there are."""

from .errors import FewShotError

GREATEST_SEED = 2**63 - 1


def check_seeds(first: int, count: int = 1) -> None:
    """Raise FewShotError unless first .. first + count - 1 are seeds, at least one."""
    if count < 1:
        raise FewShotError(f"seeds ({count}) must be at least 1")
    for seed in (first, first + count - 1):
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= GREATEST_SEED:
            raise FewShotError(f"seed ({seed}) must be a whole number from 0 to 2^63 - 1; lower --seed or --seeds")
