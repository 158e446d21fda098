"""The trader as a service of the platform: how it is started, what starts it anew, and when it is well."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mbats.errors import PlatformError
from mbats.live.hosting.control import Control
from mbats.platform.secret_files import GIVEN, MADE, SECRETS_OF, TOOLS, USERS, ensure_secrets, share_secrets
from mbats.platform.service import find_service
from mbats.platform.services import services
from mbats.platform.trader import trader
from mbats.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("MBATS_ROOT", str(tmp_path / "no project"))


def settings(home: Path, **values: Any) -> Settings:
    ensure_secrets(load_settings(home=home))
    return load_settings(home=home, **values)


def environment(home: Path, **values: Any) -> dict[str, str]:
    return dict(trader(settings(home, **values)).program().environment)


def test_the_platform_has_a_trader_at_one_port_and_it_waits_for_no_other_service(tmp_path):
    service = find_service(services(settings(tmp_path, trader_port=8195)), "trader")

    assert (service.address, service.here, service.after) == ("http://127.0.0.1:8195", True, ())
    assert [need.variable for need in service.ports] == ["MBATS_TRADER_PORT"]
    assert list(service.program().command) == [sys.executable, "-P", "-m", "mbats.cli", "trader"]


def test_a_trader_elsewhere_is_not_run_here(tmp_path):
    assert not trader(settings(tmp_path, trader_host="trader")).here


@pytest.mark.parametrize(
    "change",
    [
        {"accounts": "a=simulator"},
        {"trade_live": "001-1"},
        {"simulator_port": 8190},
        {"postgres_port": 6000},
        {"trader_clock": "broker"},
    ],
)
def test_a_change_of_what_it_reads_starts_it_anew(tmp_path, change):
    assert environment(tmp_path, **change) != environment(tmp_path)


@pytest.mark.parametrize(
    "change", [{"airflow_port": 1}, {"s3_port": 1}, {"simulator_clock": "step"}, {"superset_port": 1}, {"services": "trader"}]
)
def test_a_change_of_what_others_read_does_not_interrupt_trading(tmp_path, change):
    assert environment(tmp_path, **change) == environment(tmp_path)


@pytest.mark.parametrize("name", ["mbats_trader_token", "mbats_simulator_token", "mbats_account_real_token"])
def test_a_new_value_of_a_secret_that_it_reads_starts_it_anew_and_stands_nowhere(tmp_path, name):
    before = environment(tmp_path)
    file = tmp_path / "secrets" / name
    file.write_text("a-new-secret")
    later = Path(trader.__code__.co_filename).stat().st_mtime + 1_000_000_000
    os.utime(file, (later, later))

    after = environment(tmp_path)

    assert after["MBATS_CONFIG_FILES"] != before["MBATS_CONFIG_FILES"]
    assert "a-new-secret" not in str(after)


def test_its_secrets_are_made_or_given(tmp_path):
    assert set(SECRETS_OF["trader"]) <= {*MADE, *GIVEN}
    assert settings(tmp_path).trader_token is not None


def test_where_notices_go_is_kept_as_a_secret_when_it_is_given(tmp_path):
    ensure_secrets(load_settings(home=tmp_path, notify_urls=SecretStr("ntfy://a-topic")))

    file = tmp_path / "secrets" / "mbats_notify_urls"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("ntfy://a-topic", 0o600)
    assert load_settings(home=tmp_path).notify_urls == SecretStr("ntfy://a-topic")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users, as the first container does")
def test_the_tokens_of_accounts_are_handed_to_the_trader_and_to_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setenv("MBATS_SECRETS_DIR", str(tmp_path / TOOLS))
    ensure_secrets(load_settings(home=tmp_path / "home"))
    (tmp_path / TOOLS / "mbats_account_real_token").write_text("of the account")

    share_secrets(load_settings(), tmp_path)

    (handed,) = [file for file in tmp_path.rglob("mbats_account_real_token") if file.parent.name != TOOLS]
    assert (handed.parent.name, handed.read_text()) == ("trader", "of the account")
    assert (handed.stat().st_uid, stat.S_IMODE(handed.stat().st_mode)) == (USERS["trader"], 0o400)


# --- Health -----------------------------------------------------------------------------------------------------------------


class Desk:
    """A trader that is as well as it is told."""

    well = True
    reason = ""

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        return self.well, {"reason": self.reason}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def served(tmp_path: Path, desk: Desk) -> Iterator[Settings]:
    made = settings(tmp_path)
    control = Control(desk, host="127.0.0.1", port=0, token=made.required_secret("trader_token"))  # type: ignore[arg-type]
    control.start()
    yield made.model_copy(update={"trader_port": control.port})
    control.stop()


def test_a_trader_that_does_its_work_says_its_version(served, desk):
    assert trader(served).check() == "1.0.0.dev0"
    desk.reason = "PostgreSQL is away"
    assert trader(served).check() == "1.0.0.dev0", "what a restart would not mend is no illness of the trader"


def test_one_that_does_not_says_why(served, desk):
    desk.well, desk.reason = False, "the owner of paper hangs"

    with pytest.raises(PlatformError, match="the owner of paper hangs"):
        trader(served).check()


def test_one_with_another_token_is_not_ours(served):
    with pytest.raises(PlatformError, match="401"):
        trader(served.model_copy(update={"trader_token": SecretStr("another")})).check()


def test_one_that_is_not_there_does_not_answer(served):
    with pytest.raises(PlatformError, match="does not answer"):
        trader(served.model_copy(update={"trader_port": 9})).check()
