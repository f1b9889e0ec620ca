"""How alike two rows are, and who is most alike.

The cosine of two rows is shrunk, ``x.y / (|x| |y| + shrink)``: two users who share one
item of one are not soul mates. A user's profile (activity, confidence, recency) never
*is* the vector, it only scales: three positive numbers always point roughly the same
way, so that nearly everyone looks alike. ``profile_cosine`` is that mistake, kept for
comparison and as a kernel for users of whom nothing else is known.

Rows are compared in blocks, so memory stays bounded: as dense products while the matrix
is small enough (BLAS beats a sparse product on anything that real catalogues hold), as
sparse ones above.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heartcast.ranking.interactions import Floats

# The framework of the published tables adds this to every denominator.
_TINY = 1e-6
_BLOCK_BYTES = 64_000_000
_DENSE_BYTES = 400_000_000


def neighbours(
    rows: sparse.csr_array, k: int, shrink: float, gain: Floats | None = None, dtype: type = np.float64
) -> sparse.csr_array:
    """The k most similar other rows of every row.

    Args:
        rows: Strengths, float[n, m], >= 0.
        k: Neighbours kept per row, >= 1.
        shrink: Added to the product of the norms, >= 0.
        gain: How much each row counts as a neighbour, float[n] in (0, 1]; None: all alike.
        dtype: float32 halves the time of large products and moves scores by about 1e-6.

    Returns:
        Similarities, float[n, n]: row i holds its k neighbours, the diagonal is empty.
    """
    n = rows.shape[0]
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    parts: list[sparse.csr_array] = []
    for start, products in _gram(rows.astype(dtype)):
        stop = start + len(products)
        products /= (norms[start:stop, None] * norms[None, :] + (shrink + _TINY)).astype(dtype)
        products[np.arange(stop - start), np.arange(start, stop)] = 0
        if gain is not None:
            products *= gain[None, :].astype(dtype)
        parts.append(_best(products, min(k, n)))
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_array((n, n))


def activity_gain(counts: NDArray[np.int64], power: float) -> Floats:
    """How far a row's activity scales it as a neighbour: float[n], .25 to 1."""
    most = max(int(counts.max(initial=0)), 1)
    return np.clip((counts / most) ** power, 0.25, 1.0)


def profile_cosine(profiles: Floats) -> Floats:
    """Plain cosine between profiles, float[n, 3] >= 0; the diagonal is 0."""
    norms = np.linalg.norm(profiles, axis=1, keepdims=True)
    unit = profiles / np.maximum(norms, _TINY)
    alike: Floats = unit @ unit.T
    np.fill_diagonal(alike, 0)
    return alike


def best_per_row(alike: Floats, k: int) -> sparse.csr_array:
    """The k largest positive entries of every row; the rest is left out."""
    return _best(alike, min(k, alike.shape[1]))


def _gram(rows: sparse.csr_array) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Blocks of ``rows @ rows.T`` as (first row, dense block)."""
    n, m = rows.shape
    step = max(1, _BLOCK_BYTES // max(1, n * rows.dtype.itemsize))
    if n * m * rows.dtype.itemsize <= _DENSE_BYTES:
        dense = rows.toarray()
        for start in range(0, n, step):
            yield start, dense[start : start + step] @ dense.T
        return
    turned = rows.T.tocsr()
    for start in range(0, n, step):
        yield start, (rows[start : start + step] @ turned).toarray()


def _best(scores: NDArray[np.floating], k: int) -> sparse.csr_array:
    n, m = scores.shape
    if k < m:
        # Negated, like the framework of the published tables: which of equal neighbours
        # are kept moves a row by up to .001, and theirs should be reproducible.
        columns = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    else:
        columns = np.broadcast_to(np.arange(m), (n, m))
    values = np.take_along_axis(scores, columns, axis=1)
    kept = values > 0
    starts = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    return sparse.csr_array((values[kept], columns[kept], starts), shape=(n, m))
