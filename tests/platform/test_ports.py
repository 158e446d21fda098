"""Which port a service gets when its own is free, taken, or set by the user."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mbats.errors import ConfigError
from mbats.platform import ports
from mbats.platform.ports import PortNeed, choose_ports, holder, is_free
from mbats.settings import Settings, load_settings

POSTGRES = PortNeed("postgres_port", "PostgreSQL")
SIMULATOR = PortNeed("simulator_port", "OANDA simulator")
S3 = PortNeed("s3_port", "S3 store", twin=10000)


@pytest.fixture
def listening() -> Iterator[int]:
    """A port on which this process listens; the next one is free."""
    with ExitStack() as stack:
        for port in range(24100, 25000):
            if is_free(port) and is_free(port + 1):
                server = stack.enter_context(socket.socket())
                server.bind(("127.0.0.1", port))
                server.listen()
                yield port
                return


def settings(tmp_path: Path, **values: int) -> Settings:
    return load_settings(home=tmp_path, **values)


def choose(needs, settings, *, fixed=(), ours=None):
    said: list[str] = []
    return choose_ports(needs, settings, fixed=fixed, ours=ours or {}, say=said.append), said


def test_a_free_port_is_used_and_nothing_is_said(tmp_path, listening):
    chosen, said = choose([POSTGRES], settings(tmp_path, postgres_port=listening + 1))

    assert chosen == {"postgres_port": listening + 1}
    assert said == []


def test_a_taken_port_is_replaced_by_the_next_free_one_and_its_holder_is_named(tmp_path, listening):
    chosen, said = choose([POSTGRES], settings(tmp_path, postgres_port=listening))

    assert chosen == {"postgres_port": listening + 1}
    assert said == [f"PostgreSQL: port {listening} is held by {holder(listening)}; uses {listening + 1} instead."]
    assert f"(process {os.getpid()})" in said[0]


def test_a_taken_port_that_the_user_set_is_refused(tmp_path, listening):
    with pytest.raises(
        ConfigError, match=f"MBATS_POSTGRES_PORT={listening}, but port {listening} is held by .* Nothing was started"
    ):
        choose([POSTGRES], settings(tmp_path, postgres_port=listening), fixed=("postgres_port",))


def test_every_taken_port_that_the_user_set_is_named_at_once(tmp_path, listening):
    wanted = settings(tmp_path, postgres_port=listening, simulator_port=listening)

    with pytest.raises(ConfigError) as refusal:
        choose([POSTGRES, SIMULATOR], wanted, fixed=("postgres_port", "simulator_port"))

    assert "PostgreSQL is to use" in str(refusal.value) and "OANDA simulator is to use" in str(refusal.value)


def test_a_port_on_which_the_service_itself_listens_is_kept(tmp_path, listening):
    chosen, said = choose([POSTGRES], settings(tmp_path, postgres_port=listening), ours={"postgres_port": listening})

    assert (chosen, said) == ({"postgres_port": listening}, [])


def test_two_services_never_share_a_port_and_the_one_that_the_user_set_keeps_it(tmp_path, listening):
    port = listening + 1
    chosen, said = choose(
        [POSTGRES, SIMULATOR], settings(tmp_path, postgres_port=port, simulator_port=port), fixed=("simulator_port",)
    )

    assert chosen["simulator_port"] == port
    assert chosen["postgres_port"] > port
    assert said[0].startswith(f"PostgreSQL: port {port} is that of MBATS_SIMULATOR_PORT; uses ")


def test_a_port_whose_twin_is_taken_is_taken(tmp_path, listening):
    chosen, said = choose([S3], settings(tmp_path, s3_port=listening - 10000))

    assert chosen["s3_port"] > listening - 10000
    assert f"port {listening} is held by" in said[0]


def test_a_port_without_room_for_its_twin_is_refused():
    beyond_those_of_connections = 61_500  # which the machine gives to whoever connects, at any moment
    assert S3.obstacle(beyond_those_of_connections) == "it also needs port 71500, and there is none"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_socket_of_another_user_in_the_way_counts_as_taken(tmp_path, monkeypatch):
    need = PortNeed("s3_port", "S3 store", twin=10000, socket=str(tmp_path / "grpc-{twin}.sock"))
    blocking = tmp_path / "grpc-34999.sock"
    blocking.touch()
    os.chown(blocking, 65534, 65534)
    assert need.obstacle(24999) is None, "root can remove it"

    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert need.obstacle(24999) == f"the socket {blocking} of user 65534 stands in the way"


def test_who_holds_the_lock_of_all_platforms_does_not_hold_up_others_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "LONGEST_WAIT", 0.3)
    lock, said = tmp_path / "lock", []

    with ports.ports_to_choose(print, lock), ports.ports_to_choose(said.append, lock):
        assert said == ["Another platform is being started on this machine; it chooses its ports first."]
