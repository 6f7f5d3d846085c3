"""python -m bench.growth SET: how much a backtest of a recorded set grows, in a process of its own.

Prints one JSON object: rows read and resident memory (MB of 10^6) at a fifth of the set, when every cache and batch
buffer is warm, and at its end; and how the backtest went.
"""

import json
import sys

import msgspec

from bench.speed import PREFIX, shipped
from mmpi.engine import Engine
from mmpi.engines import engine_params
from mmpi.instrument import Nanos
from mmpi.research.backtest import Backtest
from mmpi.research.dataset import Dataset, instrument_for, open_dataset
from mmpi.runtime.step import NoJournal
from mmpi.runtime.summary import rss_mb
from mmpi.session import NEVER
from mmpi.settings import InstrumentSettings

WARM = 0.2


class Scale:
    """A backtest's progress callback that weighs the process when it is warm."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.rows = 0
        self.mb = 0.0

    def __call__(self, _now: Nanos) -> None:
        """Weigh, once."""
        if not self.rows and self._dataset.done >= WARM * self._dataset.total:
            self.rows, self.mb = self._dataset.done, rss_mb()


def main() -> None:
    """Run the set named on the command line."""
    data = sys.argv[1]
    instrument = instrument_for(data)
    dataset = open_dataset(data, instrument)
    settings = shipped()
    quoted = (InstrumentSettings(name=instrument.name, quoter=settings.instruments[0].quoter),)
    settings = msgspec.structs.replace(settings, instruments=quoted)
    # A day's end ends no backtest.
    whole = msgspec.structs.replace(settings, risk=msgspec.structs.replace(settings.risk, session_start_s=NEVER))
    engine = Engine(engine_params(whole, {instrument.name: instrument}, PREFIX))
    scale = Scale(dataset)
    Backtest(engine, NoJournal(), settings.sim).run(dataset, scale)
    result = {
        "warm_rows": scale.rows,
        "warm_mb": scale.mb,
        "rows": dataset.done,
        "end_mb": rss_mb(),
        "stopped": engine.stopped,
        "fills": engine.session.fills,
        "violations": engine.violations,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
