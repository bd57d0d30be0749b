"""The embedding of compound memory networks: saliencies that gather a sequence, and an abstract key of them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import require_choice, require_count
from .readout import positions, sequences

SEQUENCES = ("auto", "time", "space")


class SaliencyEmbedding(nn.Module):
    """A cube as `saliencies` unit rows of size c, and as a key of size `key_size`.

    For items x_i of the sequence and saliencies h_j: a_i = softmax_j(x_i.h_j / sqrt(c)), q_j = sum_i a_ij (x_i - h_j),
    rows nrm(q_j); key = W flatten(rows) + b. sequence: frames (`time`), all positions (`space`), or frames where there
    are several (`auto`). State: saliencies [m, c], key.weight [key_size, m*c], key.bias.
    """

    def __init__(
        self, cube_shape: tuple[int, ...], saliencies: int, key_size: int, sequence: str, *, identity: bool
    ) -> None:
        super().__init__()
        require_count("saliencies", saliencies)
        require_count("key_size", key_size)
        require_choice("sequence", sequence, SEQUENCES)
        channels, t = cube_shape[:2]
        self.by_frame = sequence == "time" or (sequence == "auto" and t > 1)
        self.saliencies = nn.Parameter(torch.randn(saliencies, channels) / math.sqrt(channels))
        self.key = nn.Linear(saliencies * channels, key_size)
        nn.init.zeros_(self.key.bias)
        if identity:  # at first the key is the sum of the rows
            eye = torch.eye(key_size, channels).repeat(1, saliencies)
            self.key.weight = nn.Parameter(eye)
        else:
            nn.init.xavier_uniform_(self.key.weight)

    def rows(self, cubes: Tensor) -> Tensor:
        """Cubes [..., c, t, h, w] -> unit rows [..., m, c]."""
        items = sequences(cubes) if self.by_frame else positions(cubes)  # [..., n, c]
        scores = items @ self.saliencies.T / math.sqrt(items.shape[-1])  # [..., n, m]
        shares = torch.softmax(scores, dim=-1).transpose(-1, -2)  # [..., m, n]
        return F.normalize(shares @ items - shares.sum(-1, keepdim=True) * self.saliencies, dim=-1)

    def keys(self, rows: Tensor) -> Tensor:
        """Rows [..., m, c] -> keys [..., key_size]."""
        return self.key(rows.flatten(-2))
