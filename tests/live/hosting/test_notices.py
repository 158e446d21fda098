"""Telling people: by a real HTTP receiver, without ever holding up whoever has something to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from platforms import eventually
from pydantic import SecretStr

from mbats.errors import ConfigError
from mbats.live.hosting.notices import AGAIN_AFTER, QUEUE, Figures, Level, Notice, Notices

# Apprise asks the standard library what kind of picture a file is, with a module that Python 3.13 has no more.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Receiver:
    """What a chat service gets; it answers as it is told."""

    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"json://127.0.0.1:{self.server.server_port}/a-token-in-the-path")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def test_a_notice_reaches_the_receiver_with_its_level_and_its_text(receiver):
    notices = Notices.to_addresses(receiver.url)

    notices.tell(Level.CRITICAL, "Positions differ.")
    notices.close()

    (got,) = receiver.got
    assert (got["title"], got["message"], got["type"]) == ("MBATS: critical", "Positions differ.", "failure")
    assert notices.figures() == Figures(sent=1)
    assert not notices.alive


def test_a_receiver_that_refuses_is_counted_and_the_log_keeps_the_text_and_no_address(receiver, caplog):
    receiver.status = 500
    notices = Notices.to_addresses(receiver.url)

    notices.tell(Level.WARNING, "The stream is down.")
    notices.close()

    assert notices.figures() == Figures(failed=1)
    assert "The stream is down." in caplog.text
    assert "a-token-in-the-path" not in caplog.text


def test_an_address_that_is_none_is_refused_at_the_start_and_not_shown():
    with pytest.raises(ConfigError, match="Address 2 of 2") as refused:
        Notices.to_addresses(SecretStr("json://127.0.0.1:1/x nonsense-with-a-token"))

    assert "nonsense" not in str(refused.value)


@pytest.mark.parametrize("urls", [None, SecretStr(""), SecretStr(" \n")])
def test_without_addresses_the_log_is_what_there_is(urls, caplog):
    notices = Notices.to_addresses(urls)

    notices.tell(Level.CRITICAL, "Nobody listens.")
    notices.close()

    assert "Nobody listens." in caplog.text
    assert notices.figures() == Figures()


def test_the_same_notice_goes_out_once_a_minute():
    now, sent = [0.0], []
    notices = Notices(lambda notice: sent.append(notice) is None, clock=lambda: now[0])
    for text in ("a", "a", "b"):
        notices.tell(Level.INFO, text)
    notices.tell(Level.CRITICAL, "a")
    notices.tell(Level.INFO, "c, 1 s", key="c")
    notices.tell(Level.INFO, "c, 2 s", key="c")
    now[0] = AGAIN_AFTER - 0.1
    notices.tell(Level.INFO, "a")
    now[0] = AGAIN_AFTER
    notices.tell(Level.INFO, "a")
    notices.close()

    assert sent == [
        *(Notice(Level.INFO, "a"), Notice(Level.INFO, "b"), Notice(Level.CRITICAL, "a")),
        *(Notice(Level.INFO, "c, 1 s"), Notice(Level.INFO, "a")),
    ]
    assert notices.figures() == Figures(sent=5, repeated=3)


def test_a_receiver_that_hangs_holds_nobody_up_and_what_is_too_much_is_dropped_and_counted():
    go_on = threading.Event()
    notices = Notices(lambda notice: go_on.wait(60))

    for number in range(QUEUE + 50):  # with a `tell` that waited, this would never end
        notices.tell(Level.INFO, str(number))

    assert notices.figures().dropped >= 49
    go_on.set()
    notices.close()
    figures = notices.figures()
    assert figures.sent + figures.dropped == QUEUE + 50


def test_a_receiver_that_raises_does_not_end_the_thread():
    calls = []

    def send(notice: Notice) -> bool:
        calls.append(notice)
        if len(calls) == 1:
            raise RuntimeError("broken")
        return True

    notices = Notices(send)
    notices.tell(Level.INFO, "first")
    notices.tell(Level.INFO, "second")

    assert eventually(lambda: notices.figures() == Figures(sent=1, failed=1), within=5)
    notices.close()
