"""I13: after every connect and halt nothing is placed before the account is reconciled, however long it takes."""

import pytest
from engine_builders import Bench, places


@pytest.mark.parametrize("begin", ["connect", "reconnect", "resume"])
def test_nothing_is_placed_before_the_account_is_reconciled(begin: str) -> None:
    """Books for ten seconds bring no order without the venue's answer; with it the next ones do."""
    bench = Bench()
    if begin == "connect":
        bench.connect()
    else:
        bench.start()
        if begin == "reconnect":
            bench.disconnect()
            bench.connect()
        else:
            bench.halt()
            bench.resume()
    for _ in range(20):
        assert places(bench.after(0.5).book()) == []
    assert not bench.engine.quoting
    bench.confirm()
    assert bench.engine.quoting
