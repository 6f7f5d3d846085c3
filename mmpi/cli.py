"""The command line: words and options, and the exit code for every way to end.

Invariant: with --json stdout carries exactly one JSON object on one line; everything else goes to stderr.
It must not import a command before it was asked for.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mmpi.errors import MmpiError
from mmpi.options import OPTIONS

COMMANDS: Final = {
    "demo": ("demo", "watch it work: practice exchange, quoter, guardian and a virtual front panel in one command"),
    "run": ("run", "the quoter: quote until told to stop"),
    "guardian": ("guard", "the guardian: owns the latch, stops everything when it must"),
    "kill": ("control", "press the red button: cancel everything, latch"),
    "arm": ("control", "unlatch, by hand"),
    "pause": ("asking", "cancel everything, and place nothing until mmpi resume"),
    "resume": ("asking", "end a pause that a person set"),
    "flatten": ("asking", "sell what is held, by orders that can only reduce, and stay paused"),
    "reload": ("asking", "check the configuration, and have both daemons begin anew with it"),
    "telemetry": ("telemetry", "tell the owner: MQTT, web page, alerts, Prometheus; it never trades"),
    "broker": ("broker", "write the configuration of the box's own MQTT broker; its unit starts it"),
    "status": ("status", "what the box is doing now"),
    "top": ("top", "watch the box in a terminal"),
    "health": ("health", "wait until this boot is healthy, and tell the guardian whether it is"),
    "selftest": ("selftest", "walk through buttons and lamps after wiring"),
    "setup": ("setup", "take over the folder mmpi-setup of the card, as the image does at every boot"),
    "check": ("settings", "check the configuration; print every value and where it comes from"),
    "schema": ("settings", "print the JSON Schema of the configuration"),
    "backtest": ("backtest", "run the quoter over recorded or generated market data"),
    "bench": ("bench", "measure the time from a message's bytes to orders, beside a json + Decimal quoter"),
    "calibrate": ("calibrate", "fit to recorded data what quoters and simulators need to know of a market"),
    "replay": ("journals", "recompute a journal's actions and compare"),
    "journal": ("journals", "verify, print, export, prune a journal, or bundle what tells of one time"),
    "record": ("record", "capture a venue's public market data into files that backtest reads; needs no key"),
    "practice": ("practice", "a server that speaks a venue's protocol, and keys for it; no money, no internet"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 fine, 2 bad usage or input, 3 refused for safety, 4 remote failure or
    hardware that did not pass, 1 our bug."""
    args = _parser().parse_args(argv)
    try:
        run: Callable[[argparse.Namespace], int] = importlib.import_module(
            f"mmpi.commands.{COMMANDS[args.command][0]}"
        ).run
        return run(args)
    except MmpiError as error:
        prefix = f"mmpi {args.command}: "
        print("\n".join(prefix + line for line in str(error).splitlines()), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmpi", description="A Raspberry Pi that makes markets, and can be trusted to stop."
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name != "practice":
            where = "default: MMPI_CONFIG, else /etc/mmpi/mmpi.toml"
            command.add_argument("--config", type=Path, metavar="FILE", help=where)
            command.add_argument("--json", action="store_true", help="one JSON object on one line of stdout")
        if name in OPTIONS:
            OPTIONS[name](command)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"mmpi {version('mmpi')}")
        parser.exit()
