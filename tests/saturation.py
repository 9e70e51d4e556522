"""What ONNX Runtime makes of unsigned times signed bytes on x86 without VNNI, for tests on any CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.generic]


def saturated(a: Bytes, b: Bytes) -> npt.NDArray[np.int32]:
    """a[M, K] times b[K, N] by pmaddubsw: products are added in pairs, each sum clipped to sixteen bits."""
    odd = a.shape[1] % 2
    left = np.pad(a.astype(np.int32), [(0, 0), (0, odd)])
    right = np.pad(b.astype(np.int32), [(0, odd), (0, 0)])
    pairs = left[:, 0::2, None] * right[None, 0::2] + left[:, 1::2, None] * right[None, 1::2]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(1, dtype=np.int32)
