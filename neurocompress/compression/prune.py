"""Pruning masks: which weights of a layer stay."""

from __future__ import annotations

import numpy as np


def magnitude(weight: np.ndarray, sparsity: float) -> np.ndarray:
    """Boolean mask that keeps the largest |w|: round(size * (1 - sparsity)) of them, ties by position.

    sparsity: share of zeros in the result, 0 to 1.
    """
    keep = round(weight.size * (1.0 - sparsity))
    order = np.argsort(-np.abs(weight).ravel(), kind="stable")
    mask = np.zeros(weight.size, dtype=bool)
    mask[order[:keep]] = True
    return mask.reshape(weight.shape)
