"""mmpi.practice.hyperliquid.nonces: a nonce works once, within its time."""

from practice_builders import NOW_MS

from mmpi.practice.hyperliquid.nonces import NONCES_KEPT, Nonces

DAY_MS = 86_400_000


def test_a_nonce_works_once() -> None:
    """The second use of a nonce is refused with the venue's sentence."""
    nonces = Nonces()
    assert nonces.refuse(NOW_MS, NOW_MS) == ""
    assert nonces.refuse(NOW_MS, NOW_MS) == f"Invalid nonce: duplicate nonce {NOW_MS}"


def test_nonces_may_come_out_of_order_within_the_hundred_highest() -> None:
    """A lower nonce is fine while fewer than a hundred higher ones were used, and refused after."""
    nonces = Nonces()
    used = [nonces.refuse(NOW_MS + i, NOW_MS) for i in range(0, 2 * NONCES_KEPT, 2)]
    assert used == [""] * NONCES_KEPT
    assert nonces.refuse(NOW_MS + 1, NOW_MS) == ""
    assert nonces.refuse(NOW_MS - 1, NOW_MS).startswith("Invalid nonce")
    assert nonces.refuse(NOW_MS, NOW_MS).startswith("Invalid nonce"), "dropped from the hundred, still not reusable"


def test_nonces_are_times() -> None:
    """A nonce two days old or a day ahead is refused, one just inside is not."""
    nonces = Nonces()
    assert "not within two days" in nonces.refuse(NOW_MS - 2 * DAY_MS, NOW_MS)
    assert "not within two days" in nonces.refuse(NOW_MS + DAY_MS, NOW_MS)
    assert nonces.refuse(NOW_MS - 2 * DAY_MS + 1, NOW_MS) == ""
    assert nonces.refuse(NOW_MS + DAY_MS - 1, NOW_MS) == ""
