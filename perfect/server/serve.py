"""Running the backend: in the foreground until a signal, or in a thread of a program that does more."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from perfect.errors import ConfigurationError, PerfectError
from perfect.server.app import create_app
from perfect.server.connection import limited
from perfect.server.engine.backend import Backend
from perfect.server.settings import Limits, ServerSettings, duration, perfect_home
from perfect.server.webhooks import Webhook, load

# how long requests that are under way may take to finish at the end
_DRAIN_SECONDS = 3


class Server:
    """A backend on a bound socket.

    The socket is bound at once, so a caller can try another port before anything else is started.

    Args:
        settings: how it is set up; the defaults when None.
        on_ready: called, on the server's thread, when connections are accepted.

    Attributes:
        url: where it is reached, base path included.
        backend: the engine behind the routes.

    Raises:
        ConfigurationError: the port is taken (its argument is "port"), or the database can't be opened.
    """

    def __init__(
        self, settings: ServerSettings | None = None, on_ready: Callable[[], None] | None = None
    ) -> None:
        settings = settings or ServerSettings()
        self._socket = _bind(settings.host, settings.port)
        host, port = self._socket.getsockname()[:2]
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}{settings.base_path}"
        try:
            app = create_app(settings)
        except BaseException:
            self._socket.close()
            raise
        self.backend: Backend = app.state.backend
        config = uvicorn.Config(
            app,
            http=limited(settings),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        self._uvicorn = _Uvicorn(config, self.backend.let_go, on_ready)
        self._thread: threading.Thread | None = None

    def serve(self) -> None:
        """Serve until SIGINT or SIGTERM, in the main thread; a second signal stops at once."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._uvicorn.handle_exit)
        try:
            self._uvicorn.run(sockets=[self._socket])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._socket.close()
        self._uvicorn.check()

    def start(self) -> None:
        """Serve in a background thread; returns when connections are accepted.

        Raises:
            PerfectError: it did not start; the log says why.
        """
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([self._socket],), name="perfect-server", daemon=True
        )
        self._thread.start()
        self._uvicorn.up.wait()
        self._uvicorn.check()

    def stop(self) -> None:
        """Stop the background thread, after requests that are under way."""
        if self._thread is not None:
            self._uvicorn.should_exit = True
            self._thread.join()
            self._thread = None
        self._socket.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, without its hold on signals, and with word of when it is up and about to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        let_go: Callable[[], None],
        on_ready: Callable[[], None] | None,
    ) -> None:
        super().__init__(config)
        self._let_go = let_go
        self._on_ready = on_ready
        self.up = threading.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the caller: uvicorn would raise them again when it is done."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends things in order, a second at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready()
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # open long polls would hold it up
        self._let_go()
        await super().shutdown(sockets)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self.up.set()

    def check(self) -> None:
        """Raise when it never came up."""
        if not self.started:
            raise PerfectError("the backend did not start; its log says why")


def _bind(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigurationError("host", host, error.strerror or "is unknown") from error
    # "localhost" is known as ::1, too, but it is 127.0.0.1 that everyone tries
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # listening at once is what makes a second backend on this port fail here, not later
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise ConfigurationError("port", port, error.strerror or str(error)) from error
    return bound


def _allow_files() -> None:
    """Let this process have as many files open as the system lets it: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run_server(settings: ServerSettings) -> None:
    """Serve in the foreground, and say where on standard output when connections are accepted."""
    _allow_files()
    server = Server(settings, on_ready=lambda: print(f"perfect server on {server.url}", flush=True))
    server.serve()


def webhook_settings(config: str | None, urls: Sequence[str]) -> dict[str, Any]:
    """The settings that a file and ``--webhook`` make.

    Args:
        config: path of the file; None for ``server.toml`` in PERFECT_HOME, if it is there.
        urls: further receivers, with everything else by default.

    Raises:
        ConfigurationError: something in them is wrong, or two webhooks are the same.
    """
    path = Path(config) if config else perfect_home() / "server.toml"
    public_url, hooks = load(path) if config or path.exists() else ("", ())
    hooks += tuple(Webhook(url=url) for url in urls)
    names = [hook.name for hook in hooks]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError("webhook", name, "is there twice")
    return {"public_url": public_url, "webhooks": hooks}


def settings_of(options: argparse.Namespace, token: str | None) -> ServerSettings:
    """The settings that a command line makes.

    Args:
        options: those of ``perfect server``.
        token: what everyone must show; None for nothing.

    Raises:
        ConfigurationError: something in them is wrong.
    """
    return ServerSettings(
        host=options.host,
        port=options.port,
        db=options.db,
        base_path=options.base_path,
        token=token,
        read_token=options.read_token or os.environ.get("PERFECT_READ_TOKEN") or None,
        allowed_hosts=tuple(options.allow_host),
        allow_origins=tuple(options.allow_origin),
        limits=Limits.of(options.limit),
        access_log=options.access_log,
        retain=duration("retain", options.retain) if options.retain else None,
        retain_runs=options.retain_runs,
        **webhook_settings(options.config, options.webhook),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m perfect.server``; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        token = options.token or os.environ.get("PERFECT_API_KEY") or None
        run_server(settings_of(options, token))
    except PerfectError as error:
        print(f"perfect server: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perfect.server",
        description="perfect's backend; the same as `perfect server`, which says more on each option",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3000, help="0 takes a free one")
    parser.add_argument("--db", metavar="PATH_OR_URL", help="default: PERFECT_HOME/perfect.db")
    parser.add_argument("--base-path", default="", help="path below which all is served, like /x")
    parser.add_argument("--token", help="what everyone must show; default: PERFECT_API_KEY")
    parser.add_argument("--read-token", help="one that can only read; default: PERFECT_READ_TOKEN")
    for name, metavar, summary in (
        ("--allow-host", "NAME", "a further host name under which it is reached"),
        ("--allow-origin", "ORIGIN", "pages of this origin may send requests"),
        ("--limit", "NAME=VALUE", "change a limit; a wrong one lists them"),
        ("--webhook", "URL", "who is told of failed runs"),
    ):
        parser.add_argument(name, metavar=metavar, action="append", default=[], help=summary)
    parser.add_argument("--config", metavar="TOML", help="default: PERFECT_HOME/server.toml")
    parser.add_argument(
        "--access-log", action="store_true", help="JSON lines of requests on stdout"
    )
    parser.add_argument(
        "--retain", metavar="AGE", help="remove runs this long after their end: 30d"
    )
    parser.add_argument(
        "--retain-runs", type=int, metavar="N", help="keep each flow's newest N runs"
    )
    return parser
