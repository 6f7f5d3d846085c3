"""WebSocket link: the sans-IO protocol of `websockets` in the thinnest asyncio shell, with reconnection.

Invariant: `send` never waits: it hands the frame to the transport in the caller's stack, or the link is declared dead.
It must not know what frames mean.
"""

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from mmpi.errors import ConfigError
from mmpi.instrument import Nanos
from mmpi.runtime.addresses import SHARED, Addresses

MAX_FRAME: Final = 4 * 2**20
"""Bytes of the largest message taken: Hyperliquid's largest answers (2000 fills) are under 1 MB."""
MAX_UNSENT: Final = 256 * 1024
"""Bytes that may wait in the transport; more means that the peer is gone though the socket says nothing."""
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LAST_S: Final = 5.0
OUT_OF_DATE: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl/x509_vfy.h)."""
NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h)."""
CONNECT_TIMEOUT_S: Final = 5.0
"""For the connection, and again for the answer to the opening handshake."""
ADDRESS_S: Final = 1.2
"""For one of several addresses to take the connection; a lost first packet is sent again after 1 s."""
MAX_TRIED: Final = 3
"""Addresses tried for one connection, so that the last one has half of the time; what failed is last next time."""


class Link(asyncio.Protocol):
    """One WebSocket connection, kept up by `maintain`. Callbacks run on the loop, in the order of the wire."""

    def __init__(
        self,
        url: str,
        on_open: Callable[[], None],
        on_frame: Callable[[bytes, Nanos], None],
        on_close: Callable[[str], None],
        clock: Callable[[], Nanos] = time.time_ns,
        *,
        ca_file: str = "",
        any_date: bool = False,
        addresses: Addresses = SHARED,
    ) -> None:
        """ConfigError if `url` is no WebSocket address, or `ca_file` holds no certificates ("" = the system's).

        `any_date`: go on where nothing but the dates of the peer's certificate contradicts our clock, which may be
        years off: for one who has only orders to end there.
        """
        try:
            self._uri: Final = parse_uri(url)
        except (InvalidURI, ValueError) as error:
            raise ConfigError(f"{url}: not a WebSocket address: {error}") from None
        self._tls: Final = _tls(ca_file) if self._uri.secure else None
        self._any_date, self._out_of_date = any_date, False
        self._clock = clock
        self._addresses, self._address = addresses, ""
        self.open = False
        self.last_rx = 0.0
        """Monotonic seconds of the last byte received."""
        self.connects = 0
        self._on_open, self._on_frame, self._on_close = on_open, on_frame, on_close
        self._protocol: ClientProtocol | None = None
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] | None = None
        self._partial: list[bytes] = []
        self._why = ""

    async def maintain(self) -> None:
        """Connect, and connect again whenever the link ends, until cancelled; backoff with full jitter."""
        delay = BACKOFF_FIRST_S
        while True:
            started = time.monotonic()
            try:
                await self._connect_once()
            except (OSError, UnicodeError) as error:
                self._out_of_date = _is_out_of_date(error)
                # UnicodeError: a host name with a part that is empty or too long.
                self._why = str(error) or type(error).__name__
                self._on_close(self._why)
            if time.monotonic() - started > BACKOFF_LAST_S:
                delay = BACKOFF_FIRST_S
            await asyncio.sleep(random.uniform(0, delay))
            delay = min(delay * 2, BACKOFF_LAST_S)

    def send(self, frame: bytes) -> bool:
        """Return True if the frame was handed to the transport now."""
        if not self.open or self._protocol is None or self._transport is None:
            return False
        if self._protocol.state is not State.OPEN:
            # The venue's goodbye came in the bytes whose messages are just being handled.
            return False
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self.abort("peer does not read")
            return False
        self._protocol.send_text(frame)
        self._flush()
        return True

    def abort(self, why: str) -> None:
        """End the connection at once; `maintain` makes a new one."""
        self._why = why
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the opening handshake."""
        assert isinstance(transport, asyncio.Transport) and self._protocol is not None
        self._transport = transport
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes; deliver each whole message with the time at which its last byte was seen."""
        protocol = self._protocol
        if protocol is None:
            return
        recv_ts, self.last_rx = self._clock(), time.monotonic()
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Response):
                if protocol.handshake_exc is None:
                    self.open, self.connects = True, self.connects + 1
                    self._addresses.worked(self._uri.host, self._address)
                    self._on_open()
                else:
                    self.abort(f"handshake refused: HTTP {event.status_code}")
            elif isinstance(event, Frame):
                self._frame(event, recv_ts)
        self._flush()

    def eof_received(self) -> bool | None:
        """Tell the protocol; the transport closes itself."""
        if self._protocol is not None:
            self._protocol.receive_eof()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, once."""
        self.open = False
        self._transport = None
        self._partial.clear()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._on_close(self._why or self._ending(exc))

    # Inside -------------------------------------------------------------------------------------------------------

    async def _connect_once(self) -> None:
        self._why = ""
        self._protocol = ClientProtocol(self._uri, max_size=MAX_FRAME)
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        if self._tls is not None and self._any_date:
            # The chain and the name are checked as ever. Each connection tries with the dates first.
            flags = self._tls.verify_flags & ~NO_CHECK_TIME
            self._tls.verify_flags = flags | (NO_CHECK_TIME if self._out_of_date else 0)
            self._out_of_date = False
        addresses = await self._addresses.of(self._uri.host)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._connect(addresses[:MAX_TRIED])
        try:
            await asyncio.wait({self._closed}, timeout=CONNECT_TIMEOUT_S)
            if not self.open and not self._closed.done():
                self._addresses.failed(self._uri.host, self._address)
                self.abort("handshake not answered")
            await self._closed
        finally:
            if self._transport is not None:
                self.abort(self._why or "ended by this side")

    async def _connect(self, addresses: Sequence[str]) -> None:
        """Connect to the first of these that takes us; OSError says what was wrong with the last one tried."""
        for number, address in enumerate(addresses, start=1):
            self._address = address
            try:
                peer = await _dial(address, self._uri.port, ADDRESS_S if number < len(addresses) else CONNECT_TIMEOUT_S)
                # TLS checks the host's name, whoever the address belongs to by now.
                name = self._uri.host if self._tls is not None else None
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: self, sock=peer, ssl=self._tls, server_hostname=name)
                return
            except (OSError, asyncio.CancelledError) as error:
                self._addresses.failed(self._uri.host, address)
                if number == len(addresses) or isinstance(error, asyncio.CancelledError) or _is_out_of_date(error):
                    raise

    def _ending(self, exc: Exception | None) -> str:
        """Return why a connection ended that we did not end ourselves."""
        protocol = self._protocol
        if protocol is None:
            return str(exc)
        if protocol.close_rcvd is not None:
            return f"closed by the venue: {protocol.close_rcvd}"
        if protocol.close_sent is not None:
            return f"bad bytes from the venue: {protocol.close_sent}"
        return str(protocol.handshake_exc or exc or "closed by the venue")

    def _frame(self, frame: Frame, recv_ts: Nanos) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.fin and not self._partial:
            self._on_frame(bytes(frame.data), recv_ts)
            return
        self._partial.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._partial)
            self._partial.clear()
            self._on_frame(whole, recv_ts)

    def _flush(self) -> None:
        if self._protocol is None or self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
        if self._protocol.close_expected():
            self._transport.close()


async def _dial(address: str, port: int, seconds: float) -> socket.socket:
    """Return a connected socket; TimeoutError, which is an OSError, if nobody answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With the protocol named, or asyncio would not switch Nagle's delay off.
    peer = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        peer.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(peer, (address, port))
    except TimeoutError:
        peer.close()
        raise TimeoutError(f"{address}: no answer within {seconds:g} s") from None
    except BaseException:
        peer.close()
        raise
    return peer


def _is_out_of_date(error: Exception) -> bool:
    """Return whether nothing but the dates of a certificate was wrong."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in OUT_OF_DATE


def _tls(ca_file: str) -> ssl.SSLContext:
    """Return a context that checks the peer's certificate and name."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        # ssl.SSLError is one, and its strerror is a sentence about the file's content.
        raise ConfigError(f"{ca_file}: no certificates can be read: {error.strerror or error}") from None
