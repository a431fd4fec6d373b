"""One HTTP request with one deadline, however slowly its answer comes, and whether it was sent at all."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from typing import Any, Self


class Exchange:
    """Cuts the line when its time is over: a read that waits ends then, and so does the next one.

    A socket's own timeout begins anew with every byte, so a server that sends one now and then could hold a request for ever.

    Args:
        seconds: From entering it to the last byte.

    Attributes:
        sent: Whether anything was sent.
        is_over: Whether its time was over.
    """

    def __init__(self, seconds: float) -> None:
        self.sent = self.is_over = False
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._line is not None:
                self._line.close()
                self._line = None

    def handlers(self) -> tuple[urllib.request.BaseHandler, ...]:
        """For an opener whose requests are this exchange's."""
        return _Http(self), _Https(self)

    def opened(self, line: socket.socket) -> None:
        """The connection is there; what is still to come goes over `line`."""
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = line.dup()
        if self.is_over:
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            self.is_over = True
            if self._line is not None:
                with contextlib.suppress(OSError):  # the server may have hung up
                    self._line.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    """Tells its exchange of the socket and of what it sends."""

    exchange: Exchange

    def connect(self) -> None:
        super().connect()
        self.exchange.opened(self.sock)

    def send(self, data: Any) -> None:
        super().send(data)
        self.exchange.sent = True


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """In this order HTTPS is spoken over the socket that the exchange was told of."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_made(_Connection, self._exchange), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_made(_SecureConnection, self._exchange), req)


def _made(kind: type[_Connection], exchange: Exchange) -> Any:
    def make(host: str, **more: Any) -> _Connection:
        connection = kind(host, **more)
        connection.exchange = exchange
        return connection

    return make
