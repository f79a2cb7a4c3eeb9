"""The Gauss-Newton matrix of a weighted softmax cross entropy in its scores, in the place of the loss's own graph.

For a row of scores with the probabilities p and the weight w it takes u to w (p ⊙ u - p (p · u)) (Schraudolph 2002,
section 3.2). This needs the scores alone, so that it takes a few rows at a time beside them, whatever their number.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 17  # scores


class SoftmaxCurvature:
    """Products with the second derivative of Σ weights · cross entropy in the scores; it is the same for all labels.

    Args:
        scores: `[M, C]`.
        weights: `[M]`, 0 for a row that has no label.
    """

    def __init__(self, scores: Tensor, weights: Tensor) -> None:
        self._scores, self._weights = scores.detach(), weights.detach()

    @torch.no_grad()
    def __call__(self, direction: Tensor) -> Tensor:
        """Turn a direction `[M, C]` into its product, in the same memory."""
        rows = max(1, _CHUNK // max(1, direction.shape[1]))
        precise = torch.promote_types(self._scores.dtype, torch.float32)
        for scores, weights, part in zip(
            *(t.split(rows) for t in (self._scores, self._weights, direction)), strict=True
        ):
            p = torch.softmax(scores, dim=1, dtype=precise)
            u = part.to(precise)
            mean = (p * u).sum(dim=1, keepdim=True)
            part.copy_(p.mul_(u - mean).mul_(weights[:, None]))
        return direction


def owned(direction: Tensor, others: Sequence[Tensor]) -> Tensor:
    """A tensor that may be written to: itself, or a copy where its memory is that of others or of several numbers."""
    storages = {other.untyped_storage().data_ptr() for other in others}
    is_free = direction.is_contiguous() and direction.untyped_storage().data_ptr() not in storages
    return direction if is_free else direction.clone(memory_format=torch.contiguous_format)
