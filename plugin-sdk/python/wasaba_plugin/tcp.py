"""Byte streams to what the operator granted: TCP, unix sockets, and TLS on top of either, which the agent speaks.

```
with tcp.connect(host, port) as connection:
    connection.send(b"PING\\r\\n")
    line = connection.makefile().readline()
```
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from . import _wire
from ._errors import Error, from_wire, passed_on
from ._secret import Secret, handle

_tcp = _wire.interface("tcp")


def connect(host: str, port: int, *, timeout: timedelta | float | None = None) -> Connection:
    """Connects to a host, which may be a name or an address, and a port."""
    peer = f"{host}:{port}"
    with passed_on(peer):
        return Connection(_tcp.Connection.connect(host, port, _millis(timeout)), peer)


def connect_unix(path: str, *, timeout: timedelta | float | None = None) -> Connection:
    """Connects to the unix socket of this path."""
    with passed_on(f"unix:{path}"):
        return Connection(_tcp.Connection.connect_unix(path, _millis(timeout)), f"unix:{path}")


class TlsInfo(NamedTuple):
    """What the peers agreed on."""

    #: `TLSv1.3`, `TLSv1.2`.
    protocol: str
    #: The protocol that the peer chose of those offered.
    alpn: str | None
    #: What of the certificate was verified: `encrypt`, nothing; `ca`, who signed it; `full`, also the name.
    verified: str
    #: The peer's certificates in DER, its own first.
    chain: list[bytes]


class Connection(io.RawIOBase):
    """A connection, which is a raw binary file: `makefile` gives a buffered one. Closing it, also by `with`, ends it."""

    def __init__(self, wire: Any, peer: str) -> None:
        super().__init__()
        self._wire = wire
        #: The other side, as in messages.
        self.peer = peer

    def __repr__(self) -> str:
        return f"<connection with {self.peer}>"

    def receive(self, max_bytes: int) -> bytes:
        """Waits for data and returns what has arrived, `max_bytes` at most; nothing at the end of the stream."""
        with passed_on(self.peer):
            return bytes(self._open().read(max_bytes))

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        with passed_on(self.peer):
            self._open().write(bytes(data))

    def send_secret(self, prefix: bytes, secret: Secret, suffix: bytes = b"") -> None:
        """Sends `prefix`, the secret and `suffix`."""
        with passed_on(self.peer):
            self._open().write_secret(prefix, handle(secret), suffix)

    def is_local(self) -> bool:
        """Whether the peer is on this machine: a unix socket, or a loopback address."""
        return bool(self._open().is_local())

    def finish(self) -> None:
        """Closes the sending side; receiving still works."""
        with passed_on(self.peer):
            self._open().finish()

    def start_tls(self, *, server_name: str | None = None, alpn: Sequence[str] = ()) -> TlsInfo:
        """Upgrades to TLS. The name on the certificate is that of the host that was connected to, unless `server_name` is another. An
        error has the peer's certificates as `chain`; the connection is then closed."""
        options = _tcp.TlsOptions()
        if server_name is not None:
            options.set_server_name(server_name)
        if alpn:
            options.set_alpn(list(alpn))
        try:
            info = self._open().start_tls(options)
        except _wire.Err as failure:
            error: Error = from_wire(failure.value.error, self.peer)
            error.chain = failure.value.chain  # type: ignore[attr-defined]
            raise error from None
        return TlsInfo(info.protocol, info.alpn, info.verified, info.chain)

    def set_timeout(self, timeout: timedelta | float | None) -> None:
        """Sets a timeout in seconds for each operation from now on. None, as at first: no timeout but the call's own."""
        self._open().set_timeout(_millis(timeout))

    def makefile(self) -> io.BufferedRWPair:
        """A buffered file on this connection, with `readline`, `read` of exactly so much, and `write` up to `flush`."""
        return io.BufferedRWPair(self, self)

    # io.RawIOBase.

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.receive(len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        self.send(bytes(data))
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._wire.__exit__(None, None, None)

    def _open(self) -> Any:
        if self.closed:
            raise ValueError(f"the connection with {self.peer} is closed")
        return self._wire


def _millis(timeout: timedelta | float | None) -> int | None:
    if timeout is None:
        return None
    millis = timeout / timedelta(milliseconds=1) if isinstance(timeout, timedelta) else timeout * 1_000
    # Less than a millisecond is rounded up: 0 would be at once.
    return max(1, round(millis))
