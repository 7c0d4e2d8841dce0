"""Several hosts on this computer: network namespaces, cables between them, and lines that can be cut."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

_CLONE_NEWNET = 0x40000000


class Line:
    """Carries what comes to a listening socket to a port of this computer, and back.

    While it is `cut`, nothing arrives, and neither end is told.
    """

    def __init__(self, listening: socket.socket, port: int) -> None:
        self.port = int(listening.getsockname()[1])
        self._listening, self._target = listening, port
        self._carries = threading.Event()
        self._carries.set()
        self._sockets = [listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._carries.clear()

    def mend(self) -> None:
        self._carries.set()

    def end(self) -> None:
        self.mend()
        for each in self._sockets:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self._carries.wait()
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _close(near)
                continue
            self._sockets += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._carries.wait()
                sink.sendall(data)
        except OSError:
            pass
        self._carries.wait()
        _close(source)
        _close(sink)


def line_to(port: int) -> Line:
    """A line from a new port of this computer."""
    return Line(socket.create_server(("127.0.0.1", 0)), port)


class Namespaces:
    """One host with a server, and others that have nothing but a cable to it.

    Addresses of a namespace cannot be reached from outside. Loopback of each is its own, but for the ports that
    `bring` makes known there.

    Attributes:
        names: those of the others, as ``nsenter`` finds them below ``/run/netns``.
    """

    def __init__(self, count: int) -> None:
        """Skips the test where the system does not permit namespaces."""
        if missing := [program for program in ("ip", "nsenter") if shutil.which(program) is None]:
            pytest.skip(f"network namespaces need {missing[0]}: apt-get install iproute2 util-linux")
        self._server = f"rivya{os.getpid()}s"
        self.names = [f"rivya{os.getpid()}h{number}" for number in range(count)]
        self._lines: list[Line] = []
        self._made: list[str] = []
        for name in (self._server, *self.names):
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if made.returncode:
                self.remove()
                pytest.skip(f"network namespaces need root: {made.stderr.strip()}")
            self._made.append(name)
            _ip("-n", name, "link", "set", "lo", "up")
        for number, name in enumerate(self.names):
            _ip(
                "link", "add", f"c{number}", "netns", self._server, "type", "veth", "peer", "c", "netns", name
            )
            for inside, device, end in ((self._server, f"c{number}", 1), (name, "c", 2)):
                _ip("-n", inside, "address", "add", f"10.77.{number}.{end}/24", "dev", device)
                _ip("-n", inside, "link", "set", device, "up")

    def serve(self, port: int) -> None:
        """Let the hosts reach a port of this computer at the server's end of their cables."""
        for number in range(len(self.names)):
            self._lines.append(Line(_listening_in(self._server, f"10.77.{number}.1", port), port))

    def bring(self, url: str) -> None:
        """Let the hosts reach a server of this computer as their own loopback, whatever becomes of their cables."""
        port = urlsplit(url).port
        assert port is not None
        for name in self.names:
            self._lines.append(Line(_listening_in(name, "127.0.0.1", port), port))

    def address(self, number: int) -> str:
        """The server's, for this host."""
        return f"10.77.{number}.1"

    def enter(self, number: int) -> list[str]:
        """Words before a command that run it on this host, as the same process."""
        return ["nsenter", f"--net=/run/netns/{self.names[number]}"]

    def set_cable(self, number: int, state: str) -> None:
        """``down``: what is sent over it is lost, and neither end is told. ``up``: it carries again."""
        _ip("-n", self._server, "link", "set", f"c{number}", state)

    def remove(self) -> None:
        for line in self._lines:
            line.end()
        for name in self._made:
            _ip("netns", "delete", name)


def _listening_in(namespace: str, address: str, port: int) -> socket.socket:
    """A listening socket of another namespace: it stays there, while its thread, which alone has entered it, ends."""

    def listen() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as entry:
            if libc.setns(entry.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_server((address, port))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(listen).result()


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _close(open_socket: socket.socket) -> None:
    """Close it, and end what other threads wait for on it."""
    try:
        open_socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    open_socket.close()
