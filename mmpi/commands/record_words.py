"""The words of `mmpi record`: its report, as JSON and as text, and the line that shows how it goes.

Invariant: it prints and changes nothing. It must not know connections or files.
"""

import sys
import time

import msgspec


class Report(msgspec.Struct, frozen=True):
    """What was recorded; the JSON of --json."""

    files: int
    messages: int
    bytes: int
    gaps: int
    coins: list[str]
    seconds: float
    dropped: int
    """Messages that the disk was too slow for."""
    pruned: int
    """Older files deleted for --max-gb."""
    mended: int
    """Files that an earlier recorder had left unfinished."""
    ended: str
    dir: str


class Progress:
    """A line on the terminal, rewritten every second."""

    def __init__(self) -> None:
        self._started = self._shown = time.monotonic()
        self._messages = 0

    def __call__(self, messages: int, files: int, size: int, gaps: int, dropped: int) -> None:
        """Show how many there are so far; `size` is bytes."""
        now = time.monotonic()
        if now - self._shown < 1.0:
            return
        rate = (messages - self._messages) / (now - self._shown)
        self._shown, self._messages = now, messages
        minutes, seconds = divmod(round(now - self._started), 60)
        text = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}  {rate:.0f} messages/s  {messages} messages"
        text += f"  {files} files  {size / 1e6:.2f} MB  {gaps} gaps"
        text += f"  {dropped} dropped" if dropped else ""
        print(f"\r\x1b[Kmmpi record: {text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for other words."""
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def in_words(report: Report) -> str:
    """Return the report as a person reads it."""
    lines = [
        f"recorded    {report.messages} messages of {', '.join(report.coins) or 'nothing'} in {report.seconds:.0f} s",
        f"files       {report.files}, {report.bytes / 1e6:.2f} MB, in {report.dir}",
        f"gaps        {report.gaps}" + (f", {report.dropped} messages dropped" if report.dropped else ""),
        f"ended       {report.ended}" + (f"; {report.pruned} older files deleted" if report.pruned else ""),
    ]
    if report.messages:
        lines.append(f"replay      mmpi backtest --data {report.dir} --instrument {report.coins[0]}")
    return "\n".join(lines)
