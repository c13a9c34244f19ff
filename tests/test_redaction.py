"""What is masked, what is not, and that it takes no longer than it may."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest

from perfect import redaction
from perfect.events import Encoder
from perfect.records import LogLine
from perfect.redaction import MASK, Redactor, Secret
from perfect.text import LONGEST_LINE


@pytest.fixture(autouse=True)
def own_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows another's secrets."""
    monkeypatch.setattr(redaction, "_values", set())


def test_a_secret_shows_a_mask_and_gives_its_value() -> None:
    secret = Secret("hunter2!")
    assert (str(secret), repr(secret), f"{secret}") == (MASK, f"Secret('{MASK}')", MASK)
    assert secret.get() == "hunter2!"
    assert secret == Secret("hunter2!") != Secret("other one")
    assert len({secret, Secret("hunter2!")}) == 1
    assert secret != "hunter2!"


@pytest.mark.parametrize("wrong", [None, 3, b"bytes", ["x"]])
def test_a_secret_holds_text(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a Secret holds text"):
        Secret(wrong)


def test_a_secret_goes_to_another_process_as_itself() -> None:
    copy = pickle.loads(pickle.dumps(Secret("hunter2!")))
    assert copy == Secret("hunter2!")
    assert Redactor().redact_text("say hunter2!") == f"say {MASK}"


@pytest.mark.parametrize(
    "value",
    ["hunter2!", "with \"quotes\" and 'more'", "back\\slash", "tab\there", "naïve ☃", ".*+?("],
)
def test_the_value_of_a_secret_is_masked_however_it_is_written(value: str) -> None:
    Secret(value)
    redactor = Redactor(())
    for text in (value, repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False)):
        said = redactor.redact_text(f"<{text}>")
        assert MASK in said and value not in said
        assert said.replace(MASK, "").strip("<>\"'") == ""


def test_each_line_of_a_secret_is_masked() -> None:
    Secret("-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n}\n")
    redactor = Redactor(())
    assert redactor.redact_text("MIIEvQIBADANBg") == MASK
    assert redactor.redact_text("kqhkiG9w0BAQ") == MASK
    assert redactor.redact_text("}") == "}"


def test_a_secret_in_a_secret_is_masked_whole() -> None:
    Secret("abcd")
    Secret("abcdefgh")
    Secret("xxabcdefghxx")
    redactor = Redactor(())
    assert redactor.redact_text("abcdefgh abcd xxabcdefghxx") == f"{MASK} {MASK} {MASK}"


def test_a_short_secret_does_not_mask_half_of_every_text() -> None:
    Secret("abc"), Secret("")
    assert Redactor(()).redact_text("abc abcdef") == "abc abcdef"


def test_a_secret_made_later_is_masked_from_then_on() -> None:
    redactor = Redactor(())
    assert redactor.redact_text("later on") == "later on"
    Secret("later on")
    assert redactor.redact_text("later on") == MASK


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password=hunter2", f"password={MASK}"),
        ("PASSWORD : hunter2 now", f"PASSWORD : {MASK} now"),
        ("db_passwd='two words' and more", f"db_passwd='{MASK}' and more"),
        ('{"password": "a b", "user": "u"}', f'{{"password": "{MASK}", "user": "u"}}'),
        ("{'api_key': 'it\\'s', 'x': 1}", f"{{'api_key': '{MASK}', 'x': 1}}"),
        ("https://h/p?access_key=abc&x=1", f"https://h/p?access_key={MASK}&x=1"),
        ("--token=abc --x=1", f"--token={MASK} --x=1"),
        ("secret: x, y", f"secret: {MASK}, y"),
        ("token='never closed", f"token='{MASK}"),
        ("Authorization: Basic dXNlcjpwdw==", f"Authorization: Basic {MASK}"),
        ("authorization=abcdef", f"authorization={MASK}"),
        ("sent Bearer abcdefgh.ijk-l", f"sent Bearer {MASK}"),
        ("postgres://user:pw@host/db", f"postgres://user:{MASK}@host/db"),
        ("REDIS://:pw@host", f"REDIS://:{MASK}@host"),
        ("id AKIAABCDEFGHIJKLMNOP", f"id {MASK}"),
        (f"gh ghp_{'a1' * 18}", f"gh {MASK}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----.", f"{MASK}."),
        ("-----BEGIN PRIVATE KEY-----\nMII", MASK),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, masked: str) -> None:
    assert Redactor().redact_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        *("a plain line", "5 tokens used", "the password is asked for", "x = 1", "12:30:59"),
        *('password=""', "https://host:8080/x", "monkey: 3", "high", "bearer of news", ""),
        *("secretary: Ada", "keyword=x", "Basic training", "AKIA", "mailto:a@b.c"),
    ],
)
def test_what_does_not_is_left(text: str) -> None:
    assert Redactor().redact_text(text) == text


def test_patterns_of_ones_own_take_the_place_of_the_default_ones() -> None:
    redactor = Redactor([r"(card )\d{4}", r"cvv"])
    assert redactor.redact_text("card 1234 cvv password=x") == f"card {MASK} {MASK} password=x"
    assert Redactor([]).redact_text("password=x") == "password=x"
    Secret("hunter2!")
    assert Redactor([]).redact_text("hunter2!") == MASK


def test_data_is_masked_in_texts_and_keys_and_whole_under_the_name_of_a_secret() -> None:
    Secret("hunter2!")
    data = {
        "password": ["anything", {"at": "all"}],
        "db-api_key": 3,
        "apiKey": "x",
        "token": None,
        "secret": "",
        "tokens": 17,
        "rows": [{"note": "by hunter2!", "hunter2!": 1}, 3.5, None, True, "ok"],
    }
    assert Redactor().redact(data) == {
        "password": MASK,
        "db-api_key": MASK,
        "apiKey": MASK,
        "token": None,
        "secret": "",
        "tokens": 17,
        "rows": [{"note": f"by {MASK}", MASK: 1}, 3.5, None, True, "ok"],
    }


@pytest.mark.parametrize("room", range(1, 12))
def test_a_cut_through_a_secret_leaves_no_piece_of_it(room: int) -> None:
    Secret("hunter2hunter2")
    text = f"say {'hunter2hunter2'[:room]}… [cut, 99 characters]"
    said = Redactor(()).redact_text(text)
    if room >= redaction.SHORTEST:
        assert said == f"say {MASK}… [cut, 99 characters]"


def test_a_long_line_is_masked_before_it_is_cut() -> None:
    Secret("hunter2hunter2")
    for before in range(LONGEST_LINE - 100, LONGEST_LINE + 10, 7):
        text = "x" * before + "hunter2hunter2" * 20
        event = Encoder(Redactor()).encode(LogLine("run", 0, "stdout", "INFO", text, 0.0))
        assert event is not None
        said = json.loads(event.text)["text"]
        assert "hunt" not in said and len(said.encode()) <= LONGEST_LINE


@pytest.mark.parametrize(
    "piece",
    [
        *("a-", "a://b:", 'password="', 'password=\\"', "token ", "-----BEGIN ", "secret='\\\\"),
        *("-----BEGIN PRIVATE KEY-----", "authorization: ", "bearer ", "http://a:b", "=:", "ghp_"),
    ],
)
def test_no_line_takes_more_than_linear_time(piece: str) -> None:
    redactor = Redactor()

    def took(size: int) -> float:
        text = "key://" + piece * (size // len(piece))
        began = time.perf_counter()
        redactor.redact_text(text)
        return time.perf_counter() - began

    took(1000)
    assert took(200_000) < 2  # 20 ms; with a quadratic pattern, minutes
