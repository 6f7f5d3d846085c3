"""telemetry.outbox: what waits for one broker."""

import asyncio

from mmpi.telemetry.outbox import EVENTS, Message, Outbox


async def drain(box: Outbox) -> list[Message]:
    """Return what waits, sent."""
    found = []
    while len(box):
        found.append(await box.next())
        box.sent(found[-1])
    return found


async def test_of_a_state_the_newest_waits() -> None:
    """Two texts of one topic are one message; after it was sent nothing waits, until all is to be sent anew."""
    box = Outbox()
    box.state("a", b"1")
    box.state("b", b"x")
    box.state("a", b"2")
    sent = {(each.topic, each.payload, each.retain) for each in await drain(box)}
    assert sent == {("a", b"2", True), ("b", b"x", True)}
    assert len(box) == 0
    box.renew()
    assert [each.topic for each in await drain(box)] == ["a", "b"]


async def test_events_go_first_and_in_order() -> None:
    """What happened is told before how things stand."""
    box = Outbox()
    box.state("s", b"1")
    box.event("e", b"1")
    box.event("e", b"2")
    assert [each.payload for each in await drain(box)] == [b"1", b"2", b"1"]


async def test_the_oldest_event_makes_room_and_is_counted() -> None:
    """A broker that is gone for long costs the oldest events, and no memory (I12)."""
    box = Outbox()
    for number in range(EVENTS + 3):
        box.event("e", str(number).encode())
    assert (len(box), box.dropped) == (EVENTS, 3)
    assert (await box.next()).payload == b"3"


async def test_what_changed_while_it_was_sent_is_sent_again() -> None:
    """A state that was replaced during its publication stays due."""
    box = Outbox()
    box.state("s", b"1")
    sending = await box.next()
    box.state("s", b"2")
    box.sent(sending)
    assert (await box.next()).payload == b"2"


async def test_an_event_that_was_not_sent_stays() -> None:
    """The connection broke: the next one begins with the same event."""
    box = Outbox()
    box.event("e", b"1")
    assert await box.next() is await box.next()


async def test_it_waits_for_what_comes() -> None:
    """Whoever asks an empty box gets the message that is put in later."""
    box = Outbox()
    waiting = asyncio.create_task(box.next())
    await asyncio.sleep(0)
    box.event("e", b"1")
    assert (await asyncio.wait_for(waiting, 1)).payload == b"1"
