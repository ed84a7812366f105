"""A network between a router and its PostgreSQL server that can begin to swallow what is sent."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Proxy:
    """Forwards from a socket in `folder` to the server of a URL; `swallow` keeps the connections and drops their bytes.

    New connections work at once.
    """

    def __init__(self, url: str, folder: Path) -> None:
        found = re.search(r"host=([^&]+)", url)
        assert found is not None
        self._server = f"{found[1].replace('%2F', '/')}/.s.PGSQL.5432"
        self.url = url.replace(found[1], str(folder))
        self._gates: list[threading.Event] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/.s.PGSQL.5432")
        self._listener.listen()
        self._start(self._accept)

    def swallow(self) -> None:
        """Nothing passes on the connections that are open now, and nothing is said of it."""
        for gate in self._gates:
            gate.set()

    def close(self) -> None:
        """End every connection, and take no more."""
        for end in (self._listener, *self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._sockets):
            end.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server, gate = socket.socket(socket.AF_UNIX), threading.Event()
            server.connect(self._server)
            self._gates.append(gate)
            self._sockets += (client, server)
            for source, target in ((client, server), (server, client)):
                self._start(_forward, source, target, gate)


def _forward(source: socket.socket, target: socket.socket, gate: threading.Event) -> None:
    try:
        while data := source.recv(1 << 16):
            if not gate.is_set():
                target.sendall(data)
        if not gate.is_set():
            target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
