"""A web server that never finishes: it drips one byte after another, of its headers or of an image."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n"
EVERY = 0.05


@contextmanager
def slow_sender() -> Iterator[str]:
    """Its URL; ``/headers`` never ends its headers, any other path sends them whole and drips the body."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=_accept, args=(server, over), daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        over.set()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        accepting.join(10)


def _accept(server: socket.socket, over: threading.Event) -> None:
    with suppress(OSError):
        while not over.is_set():
            connection, _ = server.accept()
            threading.Thread(target=_drip, args=(connection, over), daemon=True).start()


def _drip(connection: socket.socket, over: threading.Event) -> None:
    with connection, suppress(OSError):
        asked = connection.recv(65_536)
        connection.sendall(HEAD + (b"X-More: " if asked.startswith(b"GET /headers") else b"\r\n"))
        while not over.wait(EVERY):
            connection.sendall(b"x")
