"""mmpi backtest --report DIR: what is watched during the run and written after it.

Invariant: without --report nothing here is imported, and neither is matplotlib or numpy.
"""

import argparse
from pathlib import Path
from typing import Final

import msgspec

from mmpi.engine import Engine
from mmpi.errors import ConfigError
from mmpi.research.dataset import Dataset, find_set
from mmpi.sim.exchange import SimConfig

try:
    from mmpi.research import outline as _outline  # noqa: F401  (what it needs is missed before the run, not after it)
    from mmpi.research import report
    from mmpi.research.recorder import Recorder
except ImportError as error:
    raise ConfigError(f"--report needs the research extra ({error.name} is missing); run: make setup") from None

_WITHOUT_EFFECT: Final = ("command", "json", "journal", "report")
"""Options that do not change what is in a report."""
_GENERATED: Final = ("seconds", "seed")
"""Options of the generated market."""


class Reporter:
    """Of one run: give the backtest its `recorder`, then `finish`."""

    def __init__(self, args: argparse.Namespace, engine: Engine) -> None:
        report.check_folder(args.report)
        self.recorder = Recorder(engine)
        self._args = args

    def finish(self, sim: SimConfig, dataset: Dataset | None) -> None:
        """Write the report of the run, which is over."""
        args, recorder = self._args, self.recorder
        recorder.finish()
        facts = report.facts_of(
            recorder,
            command=command_line(args),
            data=find_set(args.data).name if args.data else f"generated market, seed {args.seed}",
            sim=sim,
            tally=msgspec.structs.asdict(dataset.tally) if dataset is not None else {},
        )
        report.write(args.report, report.build(facts, recorder), recorder)


def command_line(args: argparse.Namespace) -> str:
    """Return the command that gives this report again, files by their name alone."""
    words = ["mmpi backtest"]
    for key, value in vars(args).items():
        if key in _WITHOUT_EFFECT or value in (None, "", False) or (args.data and key in _GENERATED):
            continue
        option = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(option)
        else:
            text = Path(value).name if key == "data" or isinstance(value, Path) else value
            words.append(f"{option} {f'{text:g}' if isinstance(text, float) else text}")
    return " ".join(words)
