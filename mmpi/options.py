"""Options: what each command can be told, one function for each.

Invariant: no option imports the command that it is for. It must not know what a command does.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mmpi.words import count, delay, folder, interval, port, positive, seed, whole


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=positive, default=0.0, help="end by itself after this long")
    command.add_argument("--seed", type=seed, default=7, help="of the generated market")
    command.add_argument("--latency-ms", type=delay, default=40.0, help="of the practice exchange (default 40)")
    text = "of the page on 127.0.0.1; a free one if somebody has it, or for 0 (default 8480)"
    command.add_argument("--port", type=port, default=8480, help=text)
    command.add_argument("--no-browser", action="store_true", help="do not open the page, not even on a desktop")


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=positive, default=0.0, help="stop by itself after this long")
    text = "start even if latched, place nothing, and wait for the guardian, as the service does"
    command.add_argument("--wait", action="store_true", help=text)


def _telemetry(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=positive, default=0.0, help="stop by itself after this long")


def _broker(command: argparse.ArgumentParser) -> None:
    command.add_argument("--folder", type=folder, metavar="DIR", help="where to (default: broker.folder)")
    command.add_argument("--owner", default="", metavar="USER", help="whose the files are to be (root only)")
    text = "write nothing; print the ports at which others than the box itself come in"
    command.add_argument("--ports", action="store_true", help=text)
    command.add_argument("--wanted", action="store_true", help="write nothing; exit 0 if a broker is wanted, 3 if not")


def _top(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=positive, default=0.0, help="end by itself after this long")
    command.add_argument("--once", action="store_true", help="one picture, and no more")


def _health(command: argparse.ArgumentParser) -> None:
    text = "wait so long at most (default 180)"
    command.add_argument("--timeout", type=positive, default=180.0, metavar="SECONDS", help=text)


def _reasoned(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reason", default="by hand", help="written into journal and status")


def _kill(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reason", default="kill button", help="written into the latch")


def _selftest(command: argparse.ArgumentParser) -> None:
    text = "nobody is there: this program plays the person, too; virtual pins only"
    command.add_argument("--unattended", action="store_true", help=text)


def _setup(command: argparse.ArgumentParser) -> None:
    places = {"folder": "/boot/firmware/mmpi-setup", "data": "/data", "result-file": "/run/mmpi-box/setup.json"}
    for name, where in places.items():
        command.add_argument(f"--{name}", type=folder, default=Path(where), metavar="PATH", help=f"default {where}")
    command.add_argument("--no-mount", action="store_true", help="the folder can be written: remount nothing")


def _check(command: argparse.ArgumentParser) -> None:
    command.add_argument("--resolve", action="store_true", help="write RUNTIME_DIR/config.json for the daemons")
    text = "ask the venue, too: keys, agents, clock, market rules, order sizes, request budget; nothing is signed"
    command.add_argument("--online", action="store_true", help=text)


def _backtest(command: argparse.ArgumentParser) -> None:
    text = "a recorded set, one of its files, raw .jsonl or a recording's folder; default: generated market"
    command.add_argument("--data", help=text)
    names = "layered, avellaneda_stoikov, glft or improve"
    command.add_argument("--quoter", default="", metavar="NAME", help=f"{names} (default: the configuration's)")
    models = ("conservative", "proportional", "power_law", "fifo")
    command.add_argument("--queue", default="", choices=models, help="queue model (default: the configuration's)")
    command.add_argument("--instrument", default="", help="the symbol, where the data's name does not tell")
    command.add_argument("--tick", default="", help="price increment, for an instrument that is not in the table")
    command.add_argument("--lot", default="", help="size increment")
    where = "write the journal into a new or empty folder, or a new file *.mmj"
    command.add_argument("--journal", type=Path, metavar="PATH", help=where)
    where = "write report.md, report.html and report.json with plots into a new or empty folder"
    command.add_argument("--report", type=Path, metavar="DIR", help=where)
    command.add_argument("--seconds", type=positive, default=600.0, help="length of the generated market (default 600)")
    command.add_argument("--seed", type=seed, default=7, help="of the generated market")


def _bench(command: argparse.ArgumentParser) -> None:
    text = "raw Hyperliquid WebSocket messages (l2Book, trades), one a line"
    command.add_argument("--messages", type=Path, required=True, metavar="FILE.jsonl", help=text)
    command.add_argument("--instrument", default="", help="the coin (default: that of the first book)")
    command.add_argument("--limit", type=count, default=20_000, help="messages to use at most (default 20000)")
    command.add_argument("--rounds", type=count, default=5, help="pairs of runs; the ratio is their median (default 5)")


def _calibrate(command: argparse.ArgumentParser) -> None:
    parts = command.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, text in (
        ("intensity", "how often takers come to a depth: A and k of avellaneda_stoikov and glft"),
        ("micro_price", "the table of the reference micro_price"),
        ("queue", "how well the queue models do where each order is recorded, and the power of power_law"),
        ("market", "the numbers that the generated market is made from"),
    ):
        part = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        part.add_argument("--data", required=True, metavar="SET", help="a recorded set, a file of it, or raw .jsonl")
        part.add_argument("--instrument", default="", help="the symbol, where the data's name does not tell")
        if name != "micro_price":
            text = "price increment, for an instrument that is not in the table"
            part.add_argument("--tick", default="", help=text)
            part.add_argument("--lot", default="", help="size increment")
        part.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="not needed")
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if name in _FITS:
            _FITS[name](part)


def _intensity(part: argparse.ArgumentParser) -> None:
    text = "how long an order stays at its price: the quoter's update_interval_s (default 1)"
    part.add_argument("--hold", type=positive, default=1.0, metavar="SECONDS", help=text)


def _micro_price(part: argparse.ArgumentParser) -> None:
    text = "judge the table on this set (default: on the second half, by a table of the first)"
    part.add_argument("--test", default="", metavar="SET", help=text)
    part.add_argument("--buckets", type=count, default=6, help="parts of the imbalance, an even number (default 6)")
    part.add_argument("--max-spread", type=count, default=3, help="spreads with a row of their own (default 3)")


def _queue(part: argparse.ArgumentParser) -> None:
    part.add_argument("--orders", type=count, default=500, help="imagined in each half of the recording (default 500)")
    text = "how long each order stays (default 300)"
    part.add_argument("--horizon", type=positive, default=300.0, metavar="SECONDS", help=text)
    text = "show the models a book at most this often (default 0: each)"
    part.add_argument("--book-interval", type=interval, default=0.0, metavar="SECONDS", help=text)
    part.add_argument("--seed", type=seed, default=1, help="of the orders' times, sides and sizes (default 1)")


_FITS: Final[dict[str, Callable[[argparse.ArgumentParser], None]]] = {
    "intensity": _intensity,
    "micro_price": _micro_price,
    "queue": _queue,
}


def _replay(command: argparse.ArgumentParser) -> None:
    text = "journal folder, segment or bundle; default: the quoter's in memory"
    command.add_argument("path", type=Path, nargs="?", metavar="PATH", help=text)
    command.add_argument("--verify", action="store_true", help="exit 1 unless every action is the recorded one")


def _journal(command: argparse.ArgumentParser) -> None:
    parts = command.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, text in (
        ("verify", "check every record"),
        ("cat", "print every record, one JSON object a line"),
        ("tail", "print the last records, and with -f those that are added"),
        ("stats", "count what is in it, how fast it grows, and how its runs ended"),
        ("export", "write it as tables that other programs read"),
        ("prune", "delete what is beyond the caps from the disk"),
        ("bundle", "put all that tells of one time into one file, which replays anywhere"),
    ):
        part = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name != "prune":
            text = "folder or segment, or a bundle" if name != "bundle" else "folder or segment"
            part.add_argument("path", type=Path, nargs="?", metavar="PATH", help=f"{text}; default: this box's")
        if name not in ("prune", "bundle"):
            part.add_argument("--ledger", action="store_true", help="the durable ledger on the disk alone")
        part.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS)
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if name in _JOURNAL:
            _JOURNAL[name](part)


def _cat(part: argparse.ArgumentParser) -> None:
    text = "only records of this kind, such as run or event; may be given many times"
    part.add_argument("--kind", action="append", default=[], metavar="NAME", help=text)


def _tail(part: argparse.ArgumentParser) -> None:
    part.add_argument("-n", type=whole, default=10, dest="lines", metavar="N", help="how many (default 10)")
    part.add_argument("-f", action="store_true", dest="follow", help="go on until Ctrl-C")


def _export(part: argparse.ArgumentParser) -> None:
    part.add_argument("--parquet", type=folder, required=True, metavar="DIR", help="a new or empty folder")


def _prune(part: argparse.ArgumentParser) -> None:
    part.add_argument("--max-bytes", type=whole, metavar="N", help="default: journal.disk_max_bytes")
    part.add_argument("--max-days", type=whole, metavar="N", help="0 = any age; default: journal.disk_max_days")
    part.add_argument("--dry-run", action="store_true", help="only say what would be deleted")


def _bundle(part: argparse.ArgumentParser) -> None:
    text = "ISO 8601 (without a zone: UTC), seconds, ms or ns since 1970, now, or last-crash"
    part.add_argument("--around", required=True, metavar="TIME", help=text)
    part.add_argument("--before", type=interval, default=600.0, metavar="SECONDS", help="default 600")
    part.add_argument("--after", type=interval, default=120.0, metavar="SECONDS", help="default 120")
    part.add_argument("--out", type=Path, metavar="FILE", help="a new file (default: mmpi-<device>-<TIME>.zip here)")


_JOURNAL: Final[dict[str, Callable[[argparse.ArgumentParser], None]]] = {
    "cat": _cat, "tail": _tail, "export": _export, "prune": _prune, "bundle": _bundle,
}  # fmt: skip


def _practice(command: argparse.ArgumentParser) -> None:
    parts = command.add_subparsers(dest="what", required=True, metavar="WHAT")
    _practice_server(parts.add_parser("hyperliquid", help="the server: REST /info and /exchange, WebSocket /ws"))
    keys = parts.add_parser("keys", help="make a practice account with keys for quoter and guardian")
    keys.add_argument("--out", type=folder, required=True, metavar="DIR")
    keys.add_argument("--force", action="store_true", help="replace keys that are there")
    keys.add_argument("--vault", action="store_true", help="and a vault that the account leads")
    keys.add_argument("--json", action="store_true", help="one JSON object on one line of stdout")


def _practice_server(server: argparse.ArgumentParser) -> None:
    server.add_argument("--port", type=port, default=8765, help="on 127.0.0.1; 0 = a free one (default 8765)")
    server.add_argument("--latency-ms", type=delay, default=0.0, help="of a round trip (default 0)")
    market = "a recorded set, one of its files, raw .jsonl or a recording's folder, played now, over and over"
    server.add_argument("--data", metavar="SET", help=f"{market}; default: generated market")
    server.add_argument("--instrument", default="", metavar="NAME", help="the only coin of --data to play")
    server.add_argument("--seed", type=seed, help="of the generated market (default 7)")
    text = "something that goes wrong, such as disconnect:every=30 (docs/practice.md); may be given many times"
    server.add_argument("--fault", action="append", default=[], metavar="NAME[:key=value,...]", help=text)
    server.add_argument("--fault-seed", type=whole, default=0, help="of the faults' dice (default 0)")
    server.add_argument("--tls", action="store_true", help="https and wss, by a certificate authority of its own")
    text = "where authority and certificate are kept; with --tls only"
    server.add_argument("--tls-dir", type=Path, metavar="DIR", help=text)
    server.add_argument("--mainnet", action="store_true", help="expect mainnet signatures")
    server.add_argument("--strict", action="store_true", help="only accounts of `mmpi practice keys` exist")
    server.add_argument("--secrets", type=Path, metavar="DIR", help="serve only the account of this folder of keys")
    text = "traded volume in USD before scheduleCancel is allowed; the venue: 1000000 (default 0 = no gate)"
    server.add_argument("--volume-gate", type=whole, default=0, metavar="USD", help=text)
    text = "requests of an address before it trades (default 10000; 0 = no limit)"
    server.add_argument("--budget", type=whole, default=10_000, metavar="N", help=text)
    text = "what one IP address may ask for in a minute (default 1200; 0 = no limit)"
    server.add_argument("--weight", type=whole, default=1200, metavar="N", help=text)
    server.add_argument("--seconds", type=positive, default=0.0, help="end by itself after this long")
    server.add_argument("--json", action="store_true", help="at the end, one JSON object on one line of stdout")


def _record(command: argparse.ArgumentParser) -> None:
    command.add_argument("venue", choices=("hyperliquid",), help="whose streams")
    command.add_argument("--coins", required=True, metavar="BTC,ETH", help="by the venue's names, with commas between")
    command.add_argument("--out", type=folder, required=True, metavar="DIR", help="it may hold earlier recordings")
    command.add_argument("--url", default="", help="http(s)://host[:port] (default: that of the network)")
    command.add_argument("--network", default="", choices=("mainnet", "testnet"), help="default: mainnet")
    command.add_argument("--ca-file", default="", metavar="PEM", help="authorities to trust (default: the system's)")
    command.add_argument("--seconds", type=positive, default=0.0, help="end by itself after this long")
    command.add_argument("--rotate-mb", type=positive, default=64.0, help="compressed size of a file (default 64)")
    command.add_argument("--rotate-minutes", type=positive, default=60.0, help="age of a file (default 60)")
    command.add_argument("--max-gb", type=positive, default=0.0, help="end when the folder holds so much")
    command.add_argument("--prune", action="store_true", help="with --max-gb: delete the oldest files and go on")


OPTIONS: Final[dict[str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": _demo,
    "run": _run,
    "telemetry": _telemetry,
    "broker": _broker,
    "top": _top,
    "kill": _kill,
    "health": _health,
    "pause": _reasoned,
    "flatten": _reasoned,
    "setup": _setup,
    "check": _check,
    "selftest": _selftest,
    "backtest": _backtest,
    "bench": _bench,
    "calibrate": _calibrate,
    "replay": _replay,
    "journal": _journal,
    "record": _record,
    "practice": _practice,
}
