"""Relay: bytes between standard input and output, or whoever connects, and one server.

An emulated machine whose network is shut reaches one server of ours by it (QEMU's `guestfwd`), SSH a host in a network
namespace (`ProxyCommand`), and such a host one server of the outside. It imports nothing but the standard library.

    relay.py PORT                               standard input and output, and this host's loopback
    relay.py ADDRESS PORT                       the same with another address
    relay.py NETNS ADDRESS PORT SERVER PORT     whoever connects in that namespace, and a server of ours

The last one says `ready` when it listens, and ends when its standard input does.
"""

import contextlib
import ctypes
import os
import socket
import sys
import threading

CONNECT_S = 5.0


def stdio(address: str, port: int) -> None:
    """Carry bytes both ways until either end hangs up."""
    with socket.create_connection((address, port), CONNECT_S) as peer:
        peer.settimeout(None)

        def out() -> None:
            while data := peer.recv(65536):
                view = memoryview(data)
                while view:
                    view = view[os.write(1, view) :]
            os._exit(0)

        threading.Thread(target=out, daemon=True).start()
        while data := os.read(0, 65536):
            peer.sendall(data)


def listening(netns: str, address: str, port: int) -> socket.socket:
    """Return a socket that listens in another network namespace; we ourselves are in our own again."""
    enter = ctypes.CDLL(None, use_errno=True).setns  # os.setns came with Python 3.12
    with open("/proc/self/ns/net", "rb") as ours, open(netns, "rb") as theirs:
        for space in (theirs, ours):
            if enter(space.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns", netns)
            if space is theirs:
                server = socket.create_server((address, port))
    return server


def serve(server: socket.socket, target: tuple[str, int]) -> None:
    """Carry each connection's bytes to the target and back, for ever."""
    while True:
        client, _ = server.accept()
        threading.Thread(target=_carry, args=(client, target), daemon=True).start()


def _carry(client: socket.socket, target: tuple[str, int]) -> None:
    try:
        with client, socket.create_connection(target, CONNECT_S) as peer:
            peer.settimeout(None)
            back = threading.Thread(target=_copy, args=(peer, client), daemon=True)
            back.start()
            _copy(client, peer)
            back.join()
    except OSError as error:
        print(f"relay: {target[0]}:{target[1]}: {error}", file=sys.stderr)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Carry one direction; a side that has ended, however, ends the other's."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Do what the arguments say."""
    words = sys.argv[1:]
    if len(words) < 3:
        address, port = ("127.0.0.1", *words)[-2:]
        try:
            stdio(address, int(port))
        except OSError as error:
            sys.exit(f"relay: {address}:{port}: {error}")
        return
    netns, address, port, host, target = words
    server = listening(netns, address, int(port))
    threading.Thread(target=serve, args=(server, (host, int(target))), daemon=True).start()
    print("ready", flush=True)
    while os.read(0, 65536):
        pass


if __name__ == "__main__":
    main()
