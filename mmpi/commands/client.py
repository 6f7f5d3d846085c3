"""A blocking client of the guardian's control socket, made of the standard library's lightest parts.

Invariant: it never waits longer than it was told. It must not know what commands mean.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpi.errors import RemoteError


class NoGuardianError(RemoteError):
    """Nobody answers on the control socket."""


def call(
    path: Path, request: dict[str, Any], timeout_s: float, first_s: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the answers to one request until the final one; RemoteError if it does not come in time.

    NoGuardianError if nobody listens, or if not even the first answer comes within `first_s`.
    """
    begun = time.monotonic()
    end = begun + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            seconds, micros = divmod(round((first_s or timeout_s) * 1e6), 1_000_000)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, micros))
            # Blocking: behind a flood it waits in the kernel's queue, in turn, which no other connect does.
            link.connect(str(path))
            link.settimeout(timeout_s)
            link.sendall(json.dumps(request).encode() + b"\n")
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoGuardianError(f"{path}: no guardian is listening; start one with: mmpi guardian") from None
        except BlockingIOError:
            raise NoGuardianError(f"{path}: the guardian does not take connections") from None
        except OSError as error:
            raise RemoteError(f"{path}: {error.strerror or error}") from None
        pending = b""
        if first_s is not None:
            try:
                pending = _receive(link, path, begun + first_s, first_s)
            except RemoteError as error:
                raise NoGuardianError(str(error)) from None
        while True:
            line, newline, rest = pending.partition(b"\n")
            if newline:
                pending = rest
                answer: dict[str, Any] = json.loads(line)
                yield answer
                if answer.get("final"):
                    return
                continue
            pending += _receive(link, path, end, timeout_s)


def _receive(link: socket.socket, path: Path, end: float, timeout_s: float) -> bytes:
    try:
        link.settimeout(max(0.001, end - time.monotonic()))
        data = link.recv(65536)
    except TimeoutError:
        raise RemoteError(f"{path}: the guardian did not finish within {timeout_s:g} s") from None
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror or error}") from None
    if not data:
        raise RemoteError(f"{path}: the guardian closed the connection without a final answer")
    return data
