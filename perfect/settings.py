"""Where the backend is and how this client behaves.

A value given to `configure()` wins over the environment, which wins over ``config.toml`` in
`PERFECT_HOME`, which wins over the default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from perfect.errors import ConfigurationError

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


@dataclass(frozen=True)
class Settings:
    """The client's settings.

    Attributes:
        backend_url: where the backend listens (``PERFECT_BACKEND_URL``).
        client_id: the group this process belongs to (``PERFECT_CLIENT_ID``).
        api_key: bearer token, where the backend wants one (``PERFECT_API_KEY``).
        mock: keep everything in memory: no socket, no thread, no disk (``PERFECT_MOCK``).
        home: folder for configuration and undelivered events (``PERFECT_HOME``).
        memory_limit: bytes of undelivered events kept in memory; more goes to disk.
        redact: regular expressions of what is masked, in place of the built-in ones.
        flush_timeout: s that the end of the process may wait for delivery.
        shutdown_timeout: s that a triggered run may go on when the process ends.
    """

    backend_url: str = "http://localhost:3000"
    client_id: str = "perfect_example"
    api_key: str | None = field(default=None, repr=False)
    mock: bool = False
    home: str = os.path.join("~", ".perfect")
    memory_limit: int = 16 << 20
    redact: tuple[str, ...] | None = None
    flush_timeout: float = 5.0
    shutdown_timeout: float = 5.0

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))


def _url(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(name, value, "is not text")
    scheme, _, rest = value.partition("://")
    authority = rest.split("/")[0]
    if "@" in authority or "?" in rest or "#" in rest:
        # It may hold a password: it is not shown.
        raise ConfigurationError(name, "…", "may hold no password, query or fragment")
    if scheme not in ("http", "https") or any(c <= " " for c in value) or not _has_host(authority):
        raise ConfigurationError(name, value, "is not a URL like http://localhost:3000")
    return value.rstrip("/")


def _has_host(authority: str) -> bool:
    """Whether it is ``host``, ``host:port``, ``[ipv6]`` or ``[ipv6]:port``."""
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, "80"
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        return False
    if host.startswith("["):
        return host.endswith("]") and host.count(":") >= 2
    return bool(host) and not any(c in host for c in "[]:\\")


def _header_text(name: str, value: Any) -> str:
    """Text that may stand in an HTTP header: 1–200 printable ASCII characters."""
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        raise ConfigurationError(name, value, "is not a text of 1 to 200 characters")
    if not value.isprintable() or not value.isascii():
        raise ConfigurationError(name, value, "has characters that an HTTP header can't carry")
    return value


def _token(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
        # The value is a secret: it is not shown.
        raise ConfigurationError(name, "…", "is not a token of printable ASCII characters")
    return value


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ConfigurationError(name, value, "is neither true nor false")


def _folder(name: str, value: Any) -> str:
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigurationError(name, value, "is not a folder")
    return os.path.abspath(os.path.expanduser(path))


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(name, value, "is not a number of seconds") from None
    if isinstance(value, bool) or not 0 <= seconds <= 3600:
        raise ConfigurationError(name, value, "is outside 0 to 3600 s")
    return seconds


def _bytes(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 64 << 10:
        raise ConfigurationError(name, value, "is not a number of bytes of at least 64 KiB")
    return value


def _patterns(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(name, value, "is not a list of regular expressions")
    patterns = tuple(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ConfigurationError(name, pattern, f"is no regular expression: {error}") from None
    return patterns


_CHECKS = {
    "backend_url": _url,
    "client_id": _header_text,
    "api_key": _token,
    "mock": _flag,
    "home": _folder,
    "memory_limit": _bytes,
    "redact": _patterns,
    "flush_timeout": _seconds,
    "shutdown_timeout": _seconds,
}


def resolve(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settle every setting.

    Args:
        given: what `configure()` was called with; None means not given.
        environment: default: this process's.

    Raises:
        ConfigurationError: a value is wrong, wherever it came from; it says which and where.
    """
    env = os.environ if environment is None else environment
    explicit = {name: value for name, value in given.items() if value is not None}
    unknown = explicit.keys() - {f.name for f in fields(Settings)}
    if unknown:
        name = sorted(unknown)[0]
        raise ConfigurationError(name, explicit[name], "is no setting of perfect")
    settings = Settings()
    home = explicit.get("home") or env.get("PERFECT_HOME") or settings.home
    for source, values in (
        ("config.toml", read_config(_folder("home", home))),
        ("environment", _from_environment(env)),
        ("configure", explicit),
    ):
        for name, value in values.items():
            try:
                change: dict[str, Any] = {name: value}
                settings = replace(settings, **change)
            except ConfigurationError as error:
                if source == "configure":
                    raise
                raise ConfigurationError(
                    name, error.value, f"{error.reason} (from {source})"
                ) from None
    return settings


def _from_environment(env: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in ("backend_url", "client_id", "api_key", "mock", "home"):
        value = env.get(f"PERFECT_{name.upper()}")
        if value:
            found[name] = value
    return found


def default_home() -> str:
    """The home folder where nothing but the environment says which."""
    return _folder("home", os.environ.get("PERFECT_HOME") or Settings.home)


def config_path(home: str) -> str:
    """The configuration file of a home folder."""
    return os.path.join(home, "config.toml")


def read_config(home: str) -> dict[str, Any]:
    """What `perfect backend server|mock` has written, or nothing.

    Raises:
        ConfigurationError: the file is no TOML, or says something else than settings.
    """
    path = config_path(home)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return {}
    # Imported here because it costs 3 ms and the file is rarely there.
    import tomllib

    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError("config.toml", path, f"is no TOML: {error}") from None
    for name in values:
        if name not in _CHECKS or name == "home":
            raise ConfigurationError("config.toml", path, f"{name!r} is no setting of perfect")
    return values


def write_config(home: str, **values: str | bool) -> str:
    """Write settings to a home folder's configuration file and return its path.

    The folder is made with mode 0700, the file with 0600.

    Raises:
        ConfigurationError: a value can't be used, or the folder can't be written.
    """
    path = config_path(home)
    for name, value in values.items():
        if name not in _CHECKS:
            raise ConfigurationError(name, value, "is no setting of perfect")
        _CHECKS[name](name, value)
    kept = {**read_config(home), **values}
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else _quoted(str(value))}\n"
        for name, value in sorted(kept.items())
    ]
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
        descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(path + ".new", path)
    except OSError as error:
        raise ConfigurationError("home", home, f"can't be written: {error.strerror}") from None
    return path


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
