"""mmpi.commands.client: the blocking conversation with a guardian, against sockets that behave and that do not."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmpi.commands.client import NoGuardianError, call
from mmpi.errors import RemoteError


@contextmanager
def guardian(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[Path]:
    """Give a socket behind which a thread talks with one client."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                talk(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


def test_answers_until_the_final_one(tmp_path: Path) -> None:
    """Answers are given as they come, in whatever pieces, and nothing is read after the final one."""

    def talk(peer: socket.socket) -> None:
        assert peer.recv(100) == b'{"cmd": "status"}\n'
        for piece in (b'{"a":', b'1}\n{"a":2}\n{"fi', b'nal":true}\n{"a":3}\n'):
            peer.sendall(piece)

    with guardian(tmp_path / "s", talk) as path:
        assert list(call(path, {"cmd": "status"}, 5.0)) == [{"a": 1}, {"a": 2}, {"final": True}]


@pytest.mark.parametrize("kind", ["missing", "dead"])
def test_nobody_listens(tmp_path: Path, kind: str) -> None:
    """No socket, or one that a killed guardian left, is an error of its own that says how to start one."""
    path = tmp_path / "s"
    if kind == "dead":
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    with pytest.raises(NoGuardianError, match="no guardian is listening; start one with: mmpi guardian"):
        next(call(path, {}, 1.0))


def test_a_guardian_that_hangs(tmp_path: Path) -> None:
    """Without any answer within the time for the first one, it counts as no guardian at all."""
    done = threading.Event()

    def talk(_: socket.socket) -> None:
        done.wait(5)

    begun = time.monotonic()
    with guardian(tmp_path / "s", talk) as path:
        with pytest.raises(NoGuardianError, match=r"did not finish within 0\.05 s"):
            next(call(path, {}, 10.0, 0.05))
        took = time.monotonic() - begun
        done.set()
    assert 0.05 <= took < 1.0


def test_a_guardian_that_hangs_later(tmp_path: Path) -> None:
    """After a first answer the whole time is waited for the final one, and no longer."""
    done = threading.Event()

    def talk(peer: socket.socket) -> None:
        peer.sendall(b'{"accepted":true}\n')
        done.wait(5)

    with guardian(tmp_path / "s", talk) as path:
        answers = call(path, {}, 0.1, 0.05)
        assert next(answers) == {"accepted": True}
        with pytest.raises(RemoteError, match=r"did not finish within 0\.1 s") as caught:
            next(answers)
        assert not isinstance(caught.value, NoGuardianError)
        done.set()


def test_a_guardian_that_leaves(tmp_path: Path) -> None:
    """The end of the connection before the final answer is a failure."""
    with (
        guardian(tmp_path / "s", lambda peer: peer.sendall(b'{"accepted":true}\n')) as path,
        pytest.raises(RemoteError, match="closed the connection without a final answer|reset by peer|Broken pipe"),
    ):
        list(call(path, {}, 1.0))
