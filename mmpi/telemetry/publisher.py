"""Publisher: puts what there is to tell into the brokers' outboxes, under the topics that the phone knows.

Invariant: it never waits. It must not know connections, or who asked for what.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from mmpi.telemetry import payloads
from mmpi.telemetry.alerts import Alert
from mmpi.telemetry.outbox import Outbox
from mmpi.telemetry.snapshot import Fill, Snapshot

ENCODE: Final = msgspec.json.Encoder().encode


class Publisher:
    """What is told to one broker; `base` = prefix/device_id."""

    def __init__(self, base: str, outbox: Outbox, run: float) -> None:
        """`run`: when this run of telemetry began, Unix seconds."""
        self._base, self._outbox, self._run = base, outbox, run
        self._result = 0

    def snapshot(self, snapshot: Snapshot, active: Sequence[Alert]) -> None:
        """Tell how everything stands."""
        self._state("status", payloads.status(snapshot, self._run))
        if (pnl := payloads.pnl(snapshot, self._run)) is not None:
            self._state("pnl", pnl)
        self._state("orders", payloads.orders(snapshot, self._run))
        self._state("host", payloads.host(snapshot, self._run))
        told = payloads.ActiveAlertsPayload(
            sequence=snapshot.sequence, run=self._run, at=round(snapshot.at, 3), age_s=0.0,
            active=[self._alert(each, snapshot) for each in active],
        )  # fmt: skip
        self._state("alerts/active", told)

    def fill(self, fill: Fill, snapshot: Snapshot) -> None:
        """Tell a fill."""
        self._event("fills", payloads.fill(fill, snapshot, self._run))

    def alert(self, alert: Alert, snapshot: Snapshot) -> None:
        """Tell that an alert began, or ended."""
        self._event("alerts", self._alert(alert, snapshot))

    def result(self, cmd: str, id: str, result: str, text: str, at: float) -> None:
        """Tell what became of a command."""
        self._result += 1
        self._event("command/result", payloads.ResultPayload(
            sequence=self._result, run=self._run, at=round(at, 3), age_s=0.0, cmd=cmd, id=id, result=result, text=text,
        ))  # fmt: skip

    def discovery(self, topic: str, payload: bytes) -> None:
        """Tell Home Assistant what the box is made of."""
        self._outbox.state(topic, payload, qos=1)

    def _alert(self, alert: Alert, snapshot: Snapshot) -> payloads.AlertPayload:
        return payloads.AlertPayload(
            sequence=snapshot.sequence, run=self._run, at=round(snapshot.at, 3),
            age_s=round(max(0.0, snapshot.at - alert.since), 3), name=alert.name, instrument=alert.instrument,
            severity=alert.severity, state=alert.state, text=alert.text, since=alert.since,
        )  # fmt: skip

    def _state(self, topic: str, payload: payloads.Payload) -> None:
        self._outbox.state(f"{self._base}/{topic}", ENCODE(payload))

    def _event(self, topic: str, payload: payloads.Payload) -> None:
        self._outbox.event(f"{self._base}/{topic}", ENCODE(payload))
