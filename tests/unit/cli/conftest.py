"""The command as a user calls it, and somebody who answers at its admin address."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from inferway.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What stands in the error, without the frame that the terminal gets."""
        return " ".join(self.err.replace("│", " ").split())


def call(*arguments: str) -> Result:
    """`inferway ARGUMENTS` in this process, on a wide terminal that knows no colours."""
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    found = CliRunner().invoke(app, arguments, env=environment)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Result(found.exit_code, found.stdout, found.stderr)


@dataclass
class AdminApi:
    """Answers with what is put into `replies`: path to status and body. Notes what was asked."""

    url: str = ""
    replies: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def resources(self, *items: dict[str, Any]) -> None:
        self.replies["/admin/resources"] = 200, json.dumps({"items": items}).encode()

    def pools(self, *pools: dict[str, Any]) -> None:
        self.replies["/admin/status"] = 200, json.dumps({"pools": pools}).encode()


@pytest.fixture
def admin() -> Iterator[AdminApi]:
    api = AdminApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.asked.append(self.path)
            status, body = api.replies.get(self.path.partition("?")[0], (404, b"{}"))
            if status == 0:  # no HTTP at all
                self.wfile.write(body)
                return
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
