"""A private PostgreSQL for tests: in a temporary folder, on a unix socket, run by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

# Waits until whoever holds its standard input is gone, however that came about, and clears up behind it. The file may
# be older than the process of that number.
_GUARD = """
cat >/dev/null
read -r pid 2>/dev/null <"$0/data/postmaster.pid"
if [ -n "$pid" ] && grep -qs -- "$0" "/proc/$pid/cmdline"; then
    kill -QUIT "$pid"
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null && sleep 0.1; done
fi
rm -rf -- "$0"
"""
_UNPRIVILEGED = ("postgres", "nobody")
# nothing that is tested survives the folder, so nothing needs to reach the disk
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")


def programs() -> Path | None:
    """The folder of initdb and postgres, or None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return None if path is None else Path(path).resolve().parent


class PostgresServer:
    """A server of one's own; a context manager. It does not outlive the process that made it.

    Args:
        durable: commits reach the disk, as in production.
    """

    def __init__(self, durable: bool = False) -> None:
        folder = programs()
        assert folder is not None
        self._programs = folder
        # short: the path of a socket has at most 107 bytes; not below pytest's folders, which are root's alone
        self.folder = Path(tempfile.mkdtemp(prefix="perfect-pg-"))
        self._options = () if durable else _FAST
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = next(name for name in _UNPRIVILEGED if _known(name))
            entry = pwd.getpwnam(self._user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self.data = self.folder / "data"
        # in a session of its own: what interrupts the tests is not for it
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, self.folder], stdin=subprocess.PIPE, start_new_session=True
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> PostgresServer:
        """Make it, if it is new, and start it; returns when it takes connections."""
        if not self.data.exists():
            self._run(
                "initdb", "-D", self.data, "-U", "perfect", "-A", "trust", "-E", "UTF8", "--no-sync",
                "--locale=C.UTF-8",
            )  # fmt: skip
        settings = [part for option in self._options for part in ("-c", option)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self.data, "-k", self.folder),
                    *("-c", "listen_addresses=", *settings),
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.folder,
            )
        self._run("pg_isready", "-q", "-h", self.folder, "-t", "30", tries=300)
        return self

    def stop(self) -> None:
        """Stop it; its data stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # without waiting for its clients to leave
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def database(self, name: str | None = None) -> str:
        """Make a new database and return its URL."""
        name = name or f"t{uuid.uuid4().hex}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://perfect@/{name}?host={self.folder}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Execute a statement; returns what it yields."""
        return self._run(
            "psql", "-h", self.folder, "-U", "perfect", "-X", "-qAt", "-d", database, "-c", statement
        )  # fmt: skip

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(20)

    def _run(self, program: str, *arguments: str | Path, tries: int = 1) -> str:
        command: Sequence[str | Path] = (self._programs / program, *arguments)
        for _ in range(tries):
            done = subprocess.run(
                command,
                user=self._user,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode == 0:
                return done.stdout.strip()
            if self._process is not None and self._process.poll() is not None:
                break
            if tries > 1:
                try:
                    assert self._process is not None
                    self._process.wait(0.05)
                except subprocess.TimeoutExpired:
                    pass
        log = self.folder / "log"
        said = log.read_text()[-2000:] if log.exists() else ""
        raise AssertionError(f"{program}: {done.stderr}\n{said}")


def _known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
