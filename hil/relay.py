"""Relay: one connection's bytes between standard input and output and a port of this host's loopback.

An emulated machine whose network is shut reaches one server of ours by it (QEMU's `guestfwd`), and nothing else.
"""

import os
import socket
import sys
import threading


def main() -> None:
    """Carry bytes both ways until either end hangs up; argument: the port."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:

        def out() -> None:
            while data := peer.recv(65536):
                view = memoryview(data)
                while view:
                    view = view[os.write(1, view) :]
            os._exit(0)

        threading.Thread(target=out, daemon=True).start()
        while data := os.read(0, 65536):
            peer.sendall(data)


if __name__ == "__main__":
    main()
