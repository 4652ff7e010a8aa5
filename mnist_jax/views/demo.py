"""A page on this machine on which a person draws a digit and each lesson's net says what it sees."""

import contextlib
import json
import re
import secrets
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import numpy as np

from mnist_jax.errors import UserError
from mnist_jax.lessons import IMAGE_SHAPE
from mnist_jax.nets.images import data_url, png, read_digit
from mnist_jax.nets.trained import TrainedNet, probabilities
from mnist_jax.views.languages import WORDS, Language
from mnist_jax.views.pages import page
from mnist_jax.views.words import history

_HOST = "127.0.0.1"
_LARGEST = 20_000_000  # bytes of a picture
_PIECE = 1_000_000  # bytes
_PATIENCE = 30  # seconds to wait for the rest of a request


class Server(ThreadingHTTPServer):
    """Serves the page and answers its questions, on loopback only.

    Args:
      nets: one per lesson.
      classes: names of the ten classes.
      port: 0 for any free one.
      folder: name of the run's folder, for the page.
      language: of the page; what is printed stays English.

    Raises:
      UserError: the port is not free.
    """

    daemon_threads = True

    def __init__(
        self, nets: Sequence[TrainedNet], classes: Sequence[str], port: int, folder: str, language: Language = "en"
    ) -> None:
        self._nets = nets
        self._lock = threading.Lock()
        self._nonce = secrets.token_urlsafe()
        self.answer(png(np.eye(*IMAGE_SHAPE, dtype=np.uint8) * 255))  # compiles before anyone draws
        words = WORDS[language]
        lessons = {net.lesson_id: history(net, words) for net in nets}
        shown = {"language": language, "words": words, "folder": folder, "lessons": lessons, "classes": classes}
        self.page = page("demo.html", **shown, largest=_LARGEST, nonce=self._nonce).encode()
        try:
            super().__init__((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "a port is 0 to 65535"
            raise UserError(f"Port {port} cannot be used ({reason}); name another with --port, 0 for any.") from error

    def server_bind(self) -> None:
        """As of any TCP server: HTTP's would ask for this machine's name, which may go out to a name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed while it was answered is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{_HOST}:{self.server_port}/"

    @property
    def policy(self) -> str:
        """The page may load and run what is written in it, ask this server, and nothing else."""
        own = f"'nonce-{self._nonce}'"
        return (
            f"default-src 'none'; script-src {own}; style-src {own}; img-src data:; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def answer(self, picture: bytes) -> dict[str, Any]:
        """What the nets see on a PNG or JPEG picture.

        Returns:
          For JSON: `image`, as the nets see it, a PNG's data URL, and `lessons`, id -> ten probabilities.

        Raises:
          UserError: it is no picture of a digit.
        """
        with self._lock:  # reading sets what is done with warnings, for the whole process
            digit = read_digit(picture)
        return {
            "image": data_url(png(digit)),
            "lessons": {net.lesson_id: probabilities(net, digit[None])[0].tolist() for net in self._nets},
        }


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    wbufsize = -1  # a reply in one piece: in two, the second would wait for the first to be acknowledged

    def do_GET(self) -> None:
        if self._is_for_us() and self.path == "/":
            self._reply(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        else:
            self._say(HTTPStatus.NOT_FOUND, self._what_is_answered("GET /"))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self._is_for_us() or self.path != "/predict":
            self.close_connection = True  # what was sent is not read
            return self._say(HTTPStatus.NOT_FOUND, self._what_is_answered("POST /predict"))
        if not re.fullmatch("[0-9]{1,12}", length):
            self.close_connection = True
            return self._say(HTTPStatus.LENGTH_REQUIRED, "The length of the picture is needed.")
        if int(length) > _LARGEST:
            self.close_connection = True
            self._skip(min(int(length), 10 * _LARGEST))
            return self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A picture may have {_LARGEST:,} bytes.")
        picture = self.rfile.read(int(length))
        try:
            answer = self.server.answer(picture)
        except UserError as error:
            return self._say(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        return self._reply(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def _skip(self, size: int) -> None:
        """Read and forget what is sent, as long as it comes: a browser reads the answer when it has sent all."""
        self.connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(0, size, _PIECE):
                self.rfile.read(min(_PIECE, size))

    def _own(self) -> list[str]:
        """The addresses that are answered: those that a browser on this machine says."""
        port = self.server.server_port
        return [f"{name}:{port}" for name in (_HOST, "localhost")] + ([_HOST, "localhost"] if port == 80 else [])

    def _what_is_answered(self, request: str) -> str:
        port, answered = self.server.server_port, f"Only {request} at {' or '.join(self._own())} is answered"
        if self._host_is_own():
            return f"{answered}."
        return (
            f"{answered}; forward a port with the same number on both sides, as in: ssh -L {port}:localhost:{port} ..."
        )

    def _is_for_us(self) -> bool:
        """Whether it was this address that was asked, by its own page: others' pages may reach loopback too."""
        origin = self.headers.get("Origin")
        return self._host_is_own() and (origin is None or origin.removeprefix("http://") in self._own())

    def _host_is_own(self) -> bool:
        return self.headers.get("Host", "").lower() in self._own()

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        self._reply(status, "application/json", json.dumps({"error": sentence}).encode())

    def _reply(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Nothing: a drawing asks many times a second."""
