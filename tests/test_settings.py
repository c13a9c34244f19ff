"""Settings: where each comes from, who wins, and what is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from perfect import settings
from perfect.errors import ConfigurationError
from perfect.settings import Settings, read_config, resolve, write_config


def home_with(tmp_path: Path, text: str) -> str:
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    return str(tmp_path)


def test_the_defaults(tmp_path: Path) -> None:
    found = resolve({}, {})
    assert found == Settings()
    assert found.backend_url == "http://localhost:3000"
    assert found.client_id == "perfect_example"
    assert found.api_key is None and found.mock is False
    assert found.home == os.path.join(os.path.expanduser("~"), ".perfect")
    assert (found.flush_timeout, found.shutdown_timeout) == (5.0, 5.0)


def test_configure_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    home = home_with(tmp_path, 'backend_url = "http://file:1"\nclient_id = "file"\nmock = true\n')
    environment = {"PERFECT_HOME": home}
    assert resolve({}, environment).backend_url == "http://file:1"
    assert resolve({}, environment).mock is True
    environment |= {"PERFECT_BACKEND_URL": "http://env:2", "PERFECT_MOCK": "0"}
    assert resolve({}, environment).backend_url == "http://env:2"
    assert resolve({}, environment).client_id == "file"
    assert resolve({}, environment).mock is False
    found = resolve({"backend_url": "http://given:3", "client_id": None}, environment)
    assert (found.backend_url, found.client_id) == ("http://given:3", "file")
    assert found.flush_timeout == 5.0


def test_the_home_given_wins_over_that_of_the_environment(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    home_with(other, 'client_id = "other"')
    found = resolve({"home": other}, {"PERFECT_HOME": home_with(tmp_path, 'client_id = "one"')})
    assert (found.client_id, found.home) == ("other", str(other))


def test_every_variable_is_read() -> None:
    found = resolve(
        {},
        {
            "PERFECT_BACKEND_URL": "https://host.example/base/",
            "PERFECT_CLIENT_ID": "team",
            "PERFECT_API_KEY": "secret",
            "PERFECT_MOCK": "yes",
            "PERFECT_HOME": "/nonexistent/here",
        },
    )
    assert found == Settings(
        "https://host.example/base", "team", "secret", True, "/nonexistent/here"
    )


def test_an_empty_variable_is_not_set() -> None:
    names = ("BACKEND_URL", "CLIENT_ID", "API_KEY", "MOCK", "HOME")
    assert resolve({}, {f"PERFECT_{name}": "" for name in names}) == Settings()


WRONG: list[tuple[str, Any]] = [
    *(("backend_url", value) for value in (3, "", "localhost:3000", "ftp://host", "http://")),
    *(
        ("backend_url", f"http://{rest}")
        for rest in (":3000", "a b", "host:", "host:abc", "host:0")
    ),
    *(("backend_url", f"http://{rest}") for rest in ("host:65536", "host:99999", "a:b:c", "[::1")),
    *(("backend_url", f"http://host{rest}") for rest in ("?q=1", "#top", ":1\n", ":٣")),
    *(("client_id", value) for value in (3, "", "  ", "x" * 201, "a\nb", "naïve", b"team")),
    *(("api_key", value) for value in (3, "a\nb", "schlüssel", b"key")),
    *(("mock", value) for value in (3, "maybe", 1.0, [])),
    *(("home", value) for value in (3, "", "a\0b", b"folder")),
    *(("flush_timeout", value) for value in ("soon", -1, 3601, True, float("nan"), [], 10**400)),
    ("shutdown_timeout", float("inf")),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: repr(value)[:30])
def test_a_wrong_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({name: value}, {})
    assert caught.value.argument == name
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost", "https://host.example:443/base/path", "http://127.0.0.1:65535"),
        *("http://[::1]", "http://[::1]:3000", "http://a-b.c:1"),
    ],
)
def test_urls_that_are_some(url: str) -> None:
    assert resolve({"backend_url": url + "/"}, {}).backend_url == url


def test_secrets_are_never_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"api_key": "hunter2\n"}, {})
    assert "hunter2" not in str(caught.value) + repr(caught.value.value)
    with pytest.raises(ConfigurationError) as caught:
        resolve({}, {"PERFECT_BACKEND_URL": "http://me:hunter2@host"})
    assert "hunter2" not in str(caught.value) + repr(caught.value.value)
    assert "hunter2" not in repr(Settings(api_key="hunter2"))


def test_an_error_says_where_the_value_came_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="from environment"):
        resolve({}, {"PERFECT_MOCK": "maybe"})
    home = home_with(tmp_path, "mock = 3")
    with pytest.raises(ConfigurationError, match="from config.toml"):
        resolve({}, {"PERFECT_HOME": home})
    with pytest.raises(ConfigurationError) as caught:
        resolve({"mock": "maybe"}, {})
    assert "from" not in str(caught.value)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="colour='red'"):
        resolve({"colour": "red"}, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [("mock = ", "no TOML"), ('colour = "red"', "'colour'"), ('home = "/x"', "'home'")],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        resolve({}, {"PERFECT_HOME": home_with(tmp_path, text)})
    assert "config.toml" in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no TOML"):
        read_config(str(tmp_path))


def test_no_home_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for home in (tmp_path / "absent", file):
        assert read_config(str(home)) == {}
        assert resolve({}, {"PERFECT_HOME": str(home)}).home == str(home)
    assert not (tmp_path / "absent").exists()  # looking makes nothing


def test_what_is_written_is_read(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    write_config(home, backend_url="http://127.0.0.1:3001", mock=False)
    path = write_config(home, api_key='quo"te\\back')
    assert read_config(home) == {
        "backend_url": "http://127.0.0.1:3001",
        "mock": False,
        "api_key": 'quo"te\\back',
    }
    assert stat.S_IMODE(os.stat(home).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(home) == ["config.toml"]
    assert resolve({}, {"PERFECT_HOME": home}).api_key == 'quo"te\\back'


def test_numbers_in_the_file_outlive_a_writing(tmp_path: Path) -> None:
    home = home_with(tmp_path, "flush_timeout = 2.5\n")
    write_config(home, client_id="team")
    assert resolve({}, {"PERFECT_HOME": home}).flush_timeout == 2.5


@pytest.mark.parametrize(
    "values", [{"colour": "red"}, {"api_key": "a\nb"}, {"backend_url": "host"}]
)
def test_what_could_not_be_read_is_not_written(tmp_path: Path, values: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        write_config(str(tmp_path), **values)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="can't be written"):
        write_config(str(file), client_id="team")


def test_flags_in_words() -> None:
    for text in ("1", "true", "Yes", " ON "):
        assert resolve({"mock": text}, {}).mock is True
    for text in ("0", "false", "No", "off", ""):
        assert resolve({"mock": text}, {}).mock is False


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        settings.Settings().mock = True  # type: ignore[misc]
