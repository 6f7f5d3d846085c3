"""The window: whatever the stream's pieces, it shows the same bytes, and holds few of them."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from mmpi.journal.window import CHUNK, Window

SIZES = st.integers(0, 40)
STEPS = st.lists(
    st.tuples(st.sampled_from(["peek", "skip", "find"]), SIZES, SIZES, st.binary(min_size=1, max_size=3)), max_size=30
)


def pieces(data: bytes, sizes: list[int]) -> Callable[[int], bytes]:
    """Return a stream that gives no more than these sizes at a time, whatever is asked for."""
    left, rest = iter(sizes), memoryview(data)

    def read(size: int) -> bytes:
        nonlocal rest
        taken = bytes(rest[: min(size, next(left, size))])
        rest = rest[len(taken) :]
        return taken

    return read


@given(st.binary(max_size=120), st.lists(st.integers(1, 9)), STEPS)
def test_it_is_the_stream(data: bytes, sizes: list[int], steps: list[tuple[str, int, int, bytes]]) -> None:
    """Looked at, taken and searched in any order and any pieces, it shows the stream from an offset on."""
    window, at = Window(pieces(data, sizes)), 0
    for what, size, skip, wanted in steps:
        if what == "peek":
            assert window.peek(size) == data[at : at + size]
            assert window.peek_from(skip, size) == data[at + skip : at + skip + size]
        elif what == "skip":
            assert window.skip(size) == min(size, len(data) - at)
            at = min(at + size, len(data))
        else:
            place = data.find(wanted, at)
            assert window.find(wanted) is (place >= 0)
            at = place if place >= 0 else len(data)
        assert window.offset == at


def test_what_lies_across_two_reads_is_found() -> None:
    """A marker that is cut by the end of a read is one."""
    for cut in range(1, 4):
        window = Window(pieces(b"abcWXYZdef", [3 + cut, 10]))
        assert window.find(b"WXYZ")
        assert (window.offset, window.peek(5)) == (3, b"WXYZd")


def test_it_holds_little() -> None:
    """Through a hundred chunks it never holds more than was looked at and one chunk."""
    window = Window(pieces(bytes(100 * CHUNK), []))
    while window.peek(1000):
        assert len(window._held) <= CHUNK + 1000
        window.skip(999)
    assert window.offset == 100 * CHUNK
    searching = Window(pieces(bytes(100 * CHUNK), []))
    assert not searching.find(b"\xf5abc")
    assert searching.offset == 100 * CHUNK
    assert len(searching._held) <= CHUNK + 4


def test_a_stream_that_fails_ends_there() -> None:
    """What was read before an error of the disk is there, the error is told, and nothing is read again."""
    good, calls = pieces(b"good bytes", [4, 6]), 0

    def read(size: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OSError(5, "Input/output error")
        return good(size)

    window = Window(read)
    assert (window.peek(8), window.error) == (b"good byt", "")
    assert (window.peek(100), window.error) == (b"good bytes", "Input/output error")
    assert (window.skip(100), window.peek(1), window.find(b"x"), calls) == (10, b"", False, 3)
