"""mmpi.device.clock_sync: what the kernel's answer means."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from mmpi.device import clock_sync
from mmpi.device.clock_sync import STA_UNSYNC, TIME_ERROR, Timex, is_synchronised


def kernel(state: int, status: int) -> Callable[[Any], int]:
    """Return an adjtimex that answers this, and does what adjtimex does: fill in the struct."""

    def adjtimex(told: Any) -> int:
        found = ctypes.cast(told, ctypes.POINTER(Timex)).contents
        assert found.modes == 0, "modes other than 0 would set the clock"
        found.status = status
        return state

    return adjtimex


@pytest.mark.parametrize(
    ("state", "status", "meant"),
    [
        (0, 0, True),
        (0, 0x2001, True),
        (1, 0x0011, True),
        (0, STA_UNSYNC, False),
        (TIME_ERROR, STA_UNSYNC, False),
        (TIME_ERROR, 0, False),
        (-1, 0, None),
    ],
)
def test_what_the_kernel_means(state: int, status: int, meant: bool | None) -> None:
    """The clock is right without STA_UNSYNC and TIME_ERROR, leap seconds included; an error is no answer."""
    assert is_synchronised(kernel(state, status)) is meant


def test_this_kernel_answers() -> None:
    """The C library's own adjtimex has one of the three answers, and asking twice changes nothing."""
    first = is_synchronised()
    assert first in (True, False, None)
    assert is_synchronised() is first


def test_no_adjtimex(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library has none, nothing is known."""
    monkeypatch.setattr(clock_sync.ctypes, "CDLL", lambda _: object())
    assert is_synchronised() is None


def test_the_struct_is_the_kernels() -> None:
    """`status` stands where adjtimex(2) has it: after one int and four longs, each aligned to its own size."""
    word = ctypes.sizeof(ctypes.c_long)
    assert Timex.status.offset == 5 * word
    assert ctypes.sizeof(Timex) >= 208, "the kernel writes its whole struct timex"
