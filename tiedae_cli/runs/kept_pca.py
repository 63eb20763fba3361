"""PCA as a run keeps it in ``pca.npz``: believed only where it is whole, of this data, finite, and what PCA is; else it is fitted again.

Shapes: D values of an item, K components.
"""

import contextlib
import hashlib
import io
import os
import zipfile
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy

from tiedae_cli.model.pca import PrincipalComponents

ROOM = 1 << 14  # bytes of an archive beside its numbers
ORTHONORMAL = 1e-6  # what C^T C may differ from the identity


def content(fitted: PrincipalComponents, key: str) -> bytes:
    """Return the file.

    Args:
        fitted: what is kept.
        key: of the data.
    """
    buffer, mean, components = io.BytesIO(), fitted.mean.numpy(), np.ascontiguousarray(fitted.components.numpy())
    np.savez(buffer, data=np.array(key), mean=mean, components=components, sha256=np.array(_digest(key, mean, components)))
    return buffer.getvalue()


def believed(file: IO[bytes], key: str, pixels: int, most: int) -> PrincipalComponents | None:
    """Return what a file keeps, or None where it is damaged, of other data, or no PCA.

    Its size is bounded before anything is read, and nothing in it may be compressed: it takes no more memory than PCA of this data.

    Args:
        file: open for reading.
        key: of the data.
        pixels: D.
        most: the most components that the data can have.
    """
    if os.fstat(file.fileno()).st_size > 8 * pixels * (most + 1) + ROOM:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile):
        with zipfile.ZipFile(file) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                return None
            kept = {name: _array(archive, f"{name}.npy") for name in ("data", "mean", "components", "sha256")}
        mean, components = kept["mean"], kept["components"]
        if mean.shape != (pixels,) or components.ndim != 2 or len(components) != pixels or not components.shape[1] <= most:
            return None
        if mean.dtype != np.float64 or components.dtype != np.float64 or str(kept["data"]) != key:
            return None
        if str(kept["sha256"]) == _digest(key, mean, components) and np.isfinite(mean).all() and _is_orthonormal(components):
            return PrincipalComponents(torch.from_numpy(mean), torch.from_numpy(components))
    return None


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        values: np.ndarray = npy.read_array(file, allow_pickle=False)
        return values


def _is_orthonormal(components: np.ndarray) -> bool:
    """Return whether the columns are what those of PCA are; false for NaN, infinity and zeros."""
    with np.errstate(all="ignore"):
        difference = np.abs(components.T @ components - np.eye(components.shape[1]))
    return bool(difference.size == 0 or difference.max() < ORTHONORMAL)


def _digest(key: str, mean: np.ndarray, components: np.ndarray) -> str:
    digest = hashlib.sha256(repr((key, mean.shape, components.shape)).encode())
    digest.update(np.ascontiguousarray(mean).data)
    digest.update(np.ascontiguousarray(components).data)
    return digest.hexdigest()
