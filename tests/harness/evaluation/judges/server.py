"""A real HTTP server on this machine that plays an OpenAI-compatible endpoint, well- or ill-behaved."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Handler = BaseHTTPRequestHandler
Behave = Callable[[Handler, dict[str, Any], int], None]


@dataclass
class Server:
    """What a test knows of the server.

    Attributes:
        base_url: Where it is.
        requests: Bodies in the order of arrival.
        headers: The same of headers.
        release: Set to let handlers go that hang on purpose.
    """

    base_url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(behave: Behave) -> Iterator[Server]:
    """Serve on a free port; `behave` gets the handler, the request's body and its number, counted from 0."""
    found, lock = Server(), threading.Lock()

    class Here(Handler):
        server_version = "Test"

        def do_POST(self) -> None:  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(found.requests)
                found.requests.append(body)
                found.headers.append(dict(self.headers.items()))
            behave(self, body, number)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # clients that hang up are part of the play

    here = Quiet(("127.0.0.1", 0), Here)
    found.base_url = f"http://127.0.0.1:{here.server_port}/v1"
    thread = threading.Thread(target=here.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.release.set()
        here.shutdown()
        here.server_close()


def send(handler: Handler, status: int, content: bytes, *, reason: str | None = None, **headers: str) -> None:
    """A whole response."""
    handler.send_response(status, reason)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def say(handler: Handler, text: str | None, *, tokens: Any = 100) -> None:
    """An answer as OpenAI's API gives it."""
    content = {
        "choices": [{"message": {"role": "assistant", "content": text}}],
        "usage": {"total_tokens": tokens},
    }
    send(handler, 200, json.dumps(content).encode(), Content_Type="application/json")


def shown(body: dict[str, Any]) -> tuple[str, str]:
    """The two replies in a request, the one that is shown first first."""
    text = body["messages"][1]["content"]
    mark = text.split("\n")[1]
    parts = text.split(f"{mark}\n")
    return parts[3].removesuffix("\n"), parts[5].removesuffix(f"\n{mark}")


def prefer_longer(handler: Handler, body: dict[str, Any], _: int) -> None:
    """A fair judge with a taste: the longer reply, a tie where both are equally long."""
    first, last = map(len, shown(body))
    say(handler, "A" if first > last else "B" if last > first else "TIE")


def drop(handler: Handler, *_: Any) -> None:
    """Reset the connection: no answer, no end."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def no_json(handler: Handler, *_: Any) -> None:
    """What a proxy says."""
    send(handler, 200, b"<html>502 of a proxy</html>")
