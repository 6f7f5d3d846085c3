"""Words: what the command line's options are made of: numbers within their bounds, folders.

Invariant: what is refused is named, with what is allowed. It must not know which options there are.
"""

import argparse
from collections.abc import Callable
from pathlib import Path


def positive(text: str) -> float:
    """Return a number of seconds above 0, for argparse."""
    return _number(text, "a number above 0", lambda value: 0 < value < float("inf"))


def interval(text: str) -> float:
    """Return a number of seconds from 0 on, for argparse."""
    return _number(text, "a number from 0 on", lambda value: 0 <= value < float("inf"))


def delay(text: str) -> float:
    """Return a number of milliseconds from 0 to 10000, for argparse."""
    return _number(text, "between 0 and 10000", lambda value: 0 <= value <= 10_000)


def count(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    return _integer(text, "a whole number above 0", lambda value: value > 0)


def whole(text: str) -> int:
    """Return a whole number from 0 on, for argparse."""
    return _integer(text, "a whole number from 0 on", lambda value: value >= 0)


def seed(text: str) -> int:
    """Return a whole number, for argparse."""
    return _integer(text, "a whole number")


def port(text: str) -> int:
    """Return a port's number, for argparse; whether it is one is for the server to say."""
    return _integer(text, "a whole number from 0 to 65535")


def folder(text: str) -> Path:
    """Return a folder, for argparse; an empty one, such as a variable that is not set, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' is empty; allowed: a folder, such as . for the current one")
    return Path(text)


def _number(text: str, allowed: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}") from None
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text} is not {allowed}")
    return value


def _integer(text: str, allowed: str, fits: Callable[[int], bool] = lambda _: True) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}") from None
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text} is not {allowed}")
    return value
