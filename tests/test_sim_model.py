"""The simulation's parameters are told whole, and fees are exact."""

import msgspec

from mmpi.sim.model import SimConfig, describe, in_words


def test_every_parameter_is_told() -> None:
    """Both forms name each parameter with its value, so that none can decide a result unseen."""
    config = SimConfig(queue="power_law", queue_power=2.5, self_trade="cancel_both", maker_fee_bps=-0.5)
    told = describe(config)
    assert list(told) == list(config.__struct_fields__)
    assert (told["queue_power"], told["self_trade"], told["maker_fee_bps"]) == (2.5, "cancel_both", -0.5)
    assert all(f"{name} {value}" in in_words(config) for name, value in told.items())
    assert "\n" not in in_words(config)


def test_what_is_told_makes_the_same_exchange() -> None:
    """Told and read back, the parameters are the same."""
    config = SimConfig(amend="keep_on_decrease", latency_in_ms=7)
    assert msgspec.convert(describe(config), SimConfig) == config
