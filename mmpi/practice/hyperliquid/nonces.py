"""The nonces of one signer.

Invariant: a nonce works once, and memory is bounded (NONCES_KEPT). It must not know what was signed.

Source: Hyperliquid "Nonces and API wallets".
"""

import heapq
from typing import Final

from mmpi.practice.hyperliquid.words import DUPLICATE_NONCE, NONCE_OUT_OF_RANGE, NONCE_TOO_LOW

NONCES_KEPT: Final = 100
"""Per signer; older ones are refused."""
NONCE_PAST_MS: Final = 2 * 86_400_000
NONCE_FUTURE_MS: Final = 86_400_000


class Nonces:
    """The highest nonces that one signer has used."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        """A heap, the smallest first."""

    def refuse(self, nonce: int, now_ms: int) -> str:
        """Return why a nonce cannot be used, or "" having marked it as used."""
        if not now_ms - NONCE_PAST_MS < nonce < now_ms + NONCE_FUTURE_MS:
            return NONCE_OUT_OF_RANGE.format(nonce=nonce, now=now_ms)
        if nonce in self._kept:
            return DUPLICATE_NONCE.format(nonce=nonce)
        if len(self._kept) < NONCES_KEPT:
            heapq.heappush(self._kept, nonce)
        elif nonce < self._kept[0]:
            return NONCE_TOO_LOW.format(nonce=nonce)
        else:
            heapq.heapreplace(self._kept, nonce)
        return ""
