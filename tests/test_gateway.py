"""mmpi.runtime.gateway: nothing is placed under a halt word, and what did not leave is reported."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmpi.actions import (
    Action,
    AmendOrder,
    Approved,
    CancelOrder,
    NewOrder,
    QueryOrder,
    RequestLatch,
    RequestReconcile,
    ScheduleCancel,
    TimeInForce,
)
from mmpi.events import DeadManReport, ExecReport, ExecType
from mmpi.instrument import BUY, SELL
from mmpi.runtime.board import LATCHED, PAUSED, REDUCE, RUN, HaltWord
from mmpi.runtime.gateway import PaperGateway, VenueGateway

NOW = 1_700_000_000_000_000_000
PLACE = NewOrder("A", "0x01", BUY, 100, 1, 0)
CANCEL, QUERY = CancelOrder("A", "0x02", "7"), QueryOrder("A", "0x03", "")
LATCH, RECONCILE = RequestLatch("session loss"), RequestReconcile("connected")


def approved(*actions: Action) -> list[Approved]:
    """Return actions as a gate let them pass."""
    return [Approved(NOW, action) for action in actions]


class Wire:
    """A session and a link in one: a frame is the words for its actions; it takes `room` frames, then none."""

    def __init__(self, room: int = 100) -> None:
        self.frames: list[bytes] = []
        self.room = room

    def frames_for(self, actions: Sequence[Approved], now: int) -> list[bytes]:
        """Return one frame for cancels, one for amends, one for places, one for each question."""
        assert now == NOW, "signed with the loop's time, from which the session takes its offset"
        names = [type(each.action).__name__ for each in actions if not isinstance(each.action, RequestLatch)]
        joined = "+".join(name for name in names if name in ("NewOrder", "AmendOrder", "CancelOrder"))
        questions = [name for name in names if name in ("QueryOrder", "RequestReconcile", "ScheduleCancel")]
        return [each.encode() for each in (joined, *questions) if each]

    def send(self, frame: bytes) -> bool:
        """Take a frame while there is room."""
        if len(self.frames) >= self.room:
            return False
        self.frames.append(frame)
        return True


class Session:
    """The half of a session that a gateway uses."""

    def __init__(self, wire: Wire) -> None:
        self.send = wire.frames_for
        self.full, self.withdrawn = False, 0

    def is_full(self, now: int) -> bool:
        """Say so if told to."""
        assert now == NOW
        return self.full

    def withdraw(self) -> None:
        """Count."""
        self.withdrawn += 1


def word(folder: Path, state: int) -> HaltWord:
    """Return a halt word in this state."""
    made = HaltWord.create(folder / "halt")
    made.set(state, "test")
    made.beat(time.monotonic_ns())
    return made


def reports(gateway: VenueGateway | PaperGateway) -> list[tuple[str, ExecType, str]]:
    """Return what a gateway says about what did not leave."""
    assert all(isinstance(each, ExecReport) and each.recv_ts == NOW for each in gateway.unsent)
    return [(each.cl_ord_id, each.exec_type, each.reason) for each in gateway.unsent]


def venue_gateway(wire: Wire, halt: HaltWord | None, latches: list[str] | None = None) -> VenueGateway:
    """Return a gateway on a wire."""
    told = latches if latches is not None else []
    return VenueGateway(Session(wire), wire, halt, told.append)  # type: ignore[arg-type]


def test_cancels_and_questions_go_first(tmp_path: Path) -> None:
    """Whatever the order of the actions, what removes risk is on the wire before what adds it."""
    wire = Wire()
    gateway = venue_gateway(wire, word(tmp_path, RUN))
    gateway.send(approved(PLACE, RECONCILE, CANCEL, QUERY), NOW)
    assert wire.frames == [b"CancelOrder", b"RequestReconcile", b"QueryOrder", b"NewOrder"]
    assert reports(gateway) == []


@pytest.mark.parametrize("state", [PAUSED, LATCHED])
def test_a_halt_word_stops_orders_alone(tmp_path: Path, state: int) -> None:
    """Under a pause or a latch no order leaves, its report says so; cancels and questions go on."""
    wire = Wire()
    gateway = venue_gateway(wire, word(tmp_path, state))
    gateway.send(approved(PLACE, CANCEL, QUERY), NOW)
    assert wire.frames == [b"CancelOrder", b"QueryOrder"]
    assert reports(gateway) == [("0x01", ExecType.REJECTED, "halted")]


SELL_OFF = NewOrder("A", "0x05", SELL, 99, 1, -2, TimeInForce.IOC, reduce_only=True)


def test_reduce_lets_pass_what_only_reduces(tmp_path: Path) -> None:
    """Under REDUCE an order leaves if it says to the venue that it only reduces; a quote or an amend does not."""
    wire = Wire()
    gateway = venue_gateway(wire, word(tmp_path, REDUCE))
    gateway.send(approved(SELL_OFF, CANCEL), NOW)
    assert (wire.frames, reports(gateway)) == ([b"CancelOrder", b"NewOrder"], [])
    gateway.send(approved(PLACE, AMEND), NOW)
    assert wire.frames == [b"CancelOrder", b"NewOrder"]
    assert [(name, what) for name, what, _ in reports(gateway)] == [
        ("0x02", ExecType.CANCEL_REJECTED), ("0x04", ExecType.REJECTED), ("0x01", ExecType.REJECTED),
    ]  # fmt: skip


def test_a_frame_with_one_order_that_may_not_leave_does_not(tmp_path: Path) -> None:
    """Orders of one event share a signature: with a quote among them none of them leaves."""
    wire = Wire()
    gateway = venue_gateway(wire, word(tmp_path, REDUCE))
    gateway.send(approved(SELL_OFF, PLACE), NOW)
    assert (wire.frames, [name for name, _, _ in reports(gateway)]) == ([], ["0x05", "0x01"])


@pytest.mark.parametrize("state", [PAUSED, LATCHED])
def test_outside_reduce_nothing_leaves_because_it_reduces(tmp_path: Path, state: int) -> None:
    """I3: neither under a pause nor under a latch does it help an order that it only reduces."""
    wire = Wire()
    gateway = venue_gateway(wire, word(tmp_path, state))
    gateway.send(approved(SELL_OFF), NOW)
    assert (wire.frames, reports(gateway)) == ([], [("0x05", ExecType.REJECTED, "halted")])


def test_a_press_while_a_sale_is_signed_is_seen(tmp_path: Path) -> None:
    """What only reduces is looked at immediately before the write, too; and so is the guardian's beat."""
    for stop in (lambda halt: halt.set(LATCHED, "pressed"), lambda halt: halt.beat(1)):
        wire, halt = Wire(), word(tmp_path, REDUCE)
        gateway = venue_gateway(wire, halt)
        sign = wire.frames_for

        def slow(actions: Sequence[Approved], now: int) -> list[bytes]:
            frames = sign(actions, now)  # noqa: B023
            stop(halt)  # noqa: B023
            return frames

        gateway._session.send = slow  # type: ignore[method-assign]
        gateway.send(approved(SELL_OFF), NOW)
        assert (wire.frames, reports(gateway)) == ([], [("0x05", ExecType.REJECTED, "halted")])


def test_a_word_set_while_signing_is_seen(tmp_path: Path) -> None:
    """The word is read after the frame is signed, immediately before it is written."""
    wire, halt = Wire(), word(tmp_path, RUN)
    gateway = venue_gateway(wire, halt)
    sign = wire.frames_for

    def slow(actions: Sequence[Approved], now: int) -> list[bytes]:
        frames = sign(actions, now)
        halt.set(LATCHED, "pressed meanwhile")
        return frames

    gateway._session.send = slow  # type: ignore[method-assign]
    gateway.send(approved(PLACE), NOW)
    assert (wire.frames, reports(gateway)) == ([], [("0x01", ExecType.REJECTED, "halted")])


def test_a_frame_that_did_not_leave_is_waited_for_no_longer(tmp_path: Path) -> None:
    """Signed and then held back, or refused by the link: the session forgets the post, or it would count for ever."""
    for wire, halt in ((Wire(room=0), word(tmp_path, RUN)), (Wire(), word(tmp_path, RUN))):
        gateway = venue_gateway(wire, halt)
        sign = wire.frames_for

        def slow(actions: Sequence[Approved], now: int) -> list[bytes]:
            if wire.room:  # noqa: B023
                halt.set(PAUSED, "meanwhile")  # noqa: B023
            return sign(actions, now)  # noqa: B023

        gateway._session.send = slow  # type: ignore[method-assign]
        gateway.send(approved(PLACE), NOW)
        assert (len(gateway.unsent), gateway._session.withdrawn) == (1, 1)  # type: ignore[attr-defined]


AMEND = AmendOrder("A", "0x02", "7", "0x04", BUY, 101, 1, 0)


def test_an_amend_is_an_order_too(tmp_path: Path) -> None:
    """It goes before new orders; under a halt word it stays: the new order never lived, the old one is asked about."""
    wire = Wire()
    venue_gateway(wire, word(tmp_path, RUN)).send(approved(PLACE, AMEND, QUERY), NOW)
    assert wire.frames == [b"QueryOrder", b"AmendOrder", b"NewOrder"]
    wire = Wire()
    gateway = venue_gateway(wire, word(tmp_path, LATCHED))
    gateway.send(approved(AMEND), NOW)
    assert wire.frames == []
    assert reports(gateway) == [
        ("0x02", ExecType.CANCEL_REJECTED, "halted"),
        ("0x04", ExecType.REJECTED, "halted"),
    ]


def test_too_much_in_flight_holds_orders_back_alone(tmp_path: Path) -> None:
    """The venue allows so many unanswered posts: beyond them cancels still go."""
    wire = Wire()
    gateway = venue_gateway(wire, word(tmp_path, RUN))
    gateway._session.full = True  # type: ignore[attr-defined]
    gateway.send(approved(PLACE, CANCEL), NOW)
    assert wire.frames == [b"CancelOrder"]
    assert reports(gateway) == [("0x01", ExecType.REJECTED, "too many requests in flight")]


def test_a_refresh_of_the_dead_man_switch_that_did_not_leave(tmp_path: Path) -> None:
    """The engine hears that its fate is unknown, and asks again."""
    gateway = venue_gateway(Wire(room=0), word(tmp_path, RUN))
    gateway.send(approved(ScheduleCancel(NOW + 8)), NOW)
    assert list(gateway.unsent) == [DeadManReport(NOW, "", NOW + 8, ExecType.LOST, "not connected")]


def test_no_word_at_all(tmp_path: Path) -> None:
    """A word that no guardian ever wrote forbids; on paper, where none is needed, nothing is asked."""
    wire = Wire()
    nobody = venue_gateway(wire, HaltWord.open(tmp_path / "halt"))
    nobody.send(approved(PLACE), NOW)
    assert (wire.frames, len(nobody.unsent)) == ([], 1)
    venue_gateway(wire, None).send(approved(PLACE), NOW)
    assert wire.frames == [b"NewOrder"]


def test_a_guardian_that_is_gone(tmp_path: Path) -> None:
    """RUN written by a guardian that beat more than a second ago permits nothing, whatever the loop has seen."""
    wire, halt = Wire(), word(tmp_path, RUN)
    halt.beat(time.monotonic_ns() - 1_001_000_000)
    gateway = venue_gateway(wire, halt)
    gateway.send(approved(PLACE), NOW)
    assert (wire.frames, reports(gateway)) == ([], [("0x01", ExecType.REJECTED, "halted")])


def test_a_dead_link(tmp_path: Path) -> None:
    """An order that was not written is rejected, as it cannot be live; a cancel's fate has to be asked for."""
    gateway = venue_gateway(Wire(room=0), word(tmp_path, RUN))
    gateway.send(approved(PLACE, CANCEL, QUERY, RECONCILE), NOW)
    assert reports(gateway) == [
        ("0x02", ExecType.LOST, "not connected"),
        ("0x03", ExecType.LOST, "not connected"),
        ("0x01", ExecType.REJECTED, "not connected"),
    ]


def test_a_request_to_latch(tmp_path: Path) -> None:
    """A limit that was touched is told to the owner, with its reason, and never to the venue."""
    wire, latches = Wire(), list[str]()
    venue_gateway(wire, word(tmp_path, RUN), latches).send(approved(LATCH, CANCEL), NOW)
    assert (latches, wire.frames) == (["session loss"], [b"CancelOrder"])


class Exchange:
    """A simulated exchange that keeps what it got."""

    def __init__(self) -> None:
        self.got: list[Action] = []

    def send(self, actions: Sequence[Approved], now: int) -> None:
        """Keep."""
        assert now == NOW
        self.got += [each.action for each in actions]


def test_paper_sells_under_the_same_word(tmp_path: Path) -> None:
    """Under REDUCE the simulated exchange gets what only reduces, and no quote."""
    exchange = Exchange()
    gateway = PaperGateway(exchange, word(tmp_path, REDUCE), lambda _: None)
    gateway.send(approved(SELL_OFF, CANCEL), NOW)
    gateway.send(approved(PLACE, CANCEL), NOW)
    assert exchange.got == [SELL_OFF, CANCEL, CANCEL]
    assert reports(gateway) == [("0x01", ExecType.REJECTED, "halted")]


@pytest.mark.parametrize("state", [RUN, PAUSED, LATCHED, None])
def test_paper_obeys_the_same_word(tmp_path: Path, state: int | None) -> None:
    """On paper, too, a halt word stops orders alone, and a touched limit is told."""
    exchange, latches = Exchange(), list[str]()
    gateway = PaperGateway(exchange, None if state is None else word(tmp_path, state), latches.append)
    gateway.send(approved(PLACE, LATCH, CANCEL), NOW)
    assert latches == ["session loss"]
    if state in (RUN, None):
        assert (exchange.got, reports(gateway)) == ([PLACE, LATCH, CANCEL], [])
    else:
        assert exchange.got == [LATCH, CANCEL]
        assert reports(gateway) == [("0x01", ExecType.REJECTED, "halted")]
