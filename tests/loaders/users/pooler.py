"""A stand-in for what may lie before the database: a pooler that drops options, a line that goes dead."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SSL_REQUEST = 80877103
PIECE = 1 << 14


class Pooler:
    """Passes connections on. `drops` are start-up parameters that it keeps to itself; `dead`: it passes on no more."""

    def __init__(self, upstream: int, drops: tuple[str, ...]) -> None:
        self.upstream, self.drops = upstream, drops
        self.dead = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []

    def serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.upstream))
        self.sockets += [client, server]
        (length, code), body = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL)), b""
        if code == SSL_REQUEST:
            client.sendall(b"N")
            length, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
        body = client.recv(length - 8, socket.MSG_WAITALL)
        texts = body.split(b"\0")
        pairs = zip(texts[::2], texts[1::2], strict=False)
        kept = b"".join(
            name + b"\0" + value + b"\0" for name, value in pairs if name and name.decode() not in self.drops
        )
        server.sendall(struct.pack("!II", len(kept) + 9, code) + kept + b"\0")
        threading.Thread(target=self._pass, args=[server, client], daemon=True).start()
        self._pass(client, server)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                if self.dead.is_set():
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def pooler(upstream: int, *, drops: tuple[str, ...] = ()) -> Iterator[Pooler]:
    """A running one in front of a port of 127.0.0.1."""
    running = Pooler(upstream, drops)
    thread = threading.Thread(target=running.serve, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.listener.shutdown(socket.SHUT_RDWR)
        running.listener.close()
        for each in running.sockets:
            each.close()
        thread.join()
