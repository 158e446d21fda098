"""Which account a name stands for: paper and live differ by address and token alone, and real money is asked for twice (R36)."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from mbats.errors import ConfigError
from mbats.live.accounts import UnknownAccount, account_names, mode_of, resolve, token_file
from mbats.live.gate import Mode
from mbats.settings import Settings, load_settings

LIVE_ID, PRACTICE_ID = "001-004-1435156-001", "101-004-1435156-001"
HOSTS = {
    "simulator": ("http://127.0.0.1:8090", "http://127.0.0.1:8091"),
    "practice": ("https://api-fxpractice.oanda.com", "https://stream-fxpractice.oanda.com"),
    "live": ("https://api-fxtrade.oanda.com", "https://stream-fxtrade.oanda.com"),
}


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("MBATS_ROOT", str(tmp_path / "no project"))


def settings(home: Path, **values: object) -> Settings:
    return load_settings(home=home, simulator_token="of-the-simulator", **values)


def own_token(settings: Settings, name: str, token: str) -> None:
    file = token_file(settings, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{token}\n")


# Each of the five that can be wrong, right and wrong in every combination.
MATRIX = list(
    product(
        ("simulator", "practice", "live"),  # the environment of the account
        ("simulator", "practice", "live"),  # that of MBATS_OANDA_ENVIRONMENT, whose token MBATS_OANDA_TOKEN is
        (None, PRACTICE_ID, LIVE_ID),  # the account's id
        (None, "yes", PRACTICE_ID, LIVE_ID),  # the second word
        (False, True),  # whether the account has a token of its own
    )
)


@pytest.mark.parametrize(("environment", "of_token", "account", "word", "own"), MATRIX)
def test_an_account_is_given_out_only_when_everything_that_is_said_of_it_agrees(
    tmp_path, environment, of_token, account, word, own
):
    entry = environment if account is None else f"{environment}:{account}"
    found = settings(tmp_path, accounts=f"a={entry}", oanda_environment=of_token, oanda_token="of-oanda", trade_live=word)
    if own:
        own_token(found, "a", "its-own")
    is_allowed = {
        "simulator": True,
        "practice": account != LIVE_ID and (own or of_token != "live"),
        "live": account == LIVE_ID and word == LIVE_ID and (own or of_token != "practice"),
    }[environment]

    if not is_allowed:
        with pytest.raises(ConfigError, match="nothing"):
            resolve(found, "a")
        return

    ref = resolve(found, "a")
    assert (ref.url, ref.stream_url) == HOSTS[environment]
    assert (ref.name, ref.environment, ref.account_id) == ("a", environment, account)
    assert ref.mode is (Mode.LIVE if environment == "live" else Mode.PAPER)
    token = "its-own" if own else "of-the-simulator" if environment == "simulator" else "of-oanda"
    assert ref.token.get_secret_value() == token
    assert token not in repr(ref)


def test_several_accounts_stand_side_by_side_in_their_order(tmp_path):
    found = settings(
        tmp_path, accounts=f" paper = simulator, real=live:{LIVE_ID} ,trial=practice:{PRACTICE_ID}", trade_live=LIVE_ID
    )

    assert account_names(found) == ["paper", "real", "trial"]
    assert [mode_of(found, name) for name in account_names(found)] == [Mode.PAPER, Mode.LIVE, Mode.PAPER]
    assert resolve(found, "paper").environment == "simulator", "one account's missing token is nothing to another"
    with pytest.raises(ConfigError, match="No token for account 'real'"):
        resolve(found, "real")


@pytest.mark.parametrize(("words", "is_allowed"), [(f"{LIVE_ID}, 001-004-1-2", True), ("001-004-1-2,001-004-1-3", False)])
def test_the_second_word_may_be_said_for_several_accounts(tmp_path, words, is_allowed):
    found = settings(tmp_path, accounts=f"a=live:{LIVE_ID}", oanda_environment="live", oanda_token="t", trade_live=words)

    if is_allowed:
        assert resolve(found, "a").account_id == LIVE_ID
    else:
        with pytest.raises(ConfigError, match="second"):
            resolve(found, "a")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, ("simulator", None)),
        ({"oanda_account": PRACTICE_ID}, ("simulator", PRACTICE_ID)),
        ({"oanda_environment": "practice", "oanda_account": PRACTICE_ID}, ("practice", PRACTICE_ID)),
        ({"oanda_environment": "live", "oanda_account": LIVE_ID, "trade_live": LIVE_ID}, ("simulator", None)),
    ],
)
def test_without_the_setting_there_is_one_account_that_risks_nothing(tmp_path, chosen, expected):
    found = settings(tmp_path, oanda_token="t", **chosen)

    assert account_names(found) == ["paper"]
    ref = resolve(found, "paper")
    assert (ref.environment, ref.account_id) == expected
    assert ref.mode is Mode.PAPER


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        ("paper", "expected name=environment"),
        ("paper=", "expected name=environment"),
        ("paper=demo", "one of simulator, practice, live"),
        ("Paper=simulator", "expected name=environment"),
        ("../x=simulator", "expected name=environment"),
        ("paper=simulator:", "expected name=environment"),
        ("paper=practice:a b", "is no account's id"),
        ("a=simulator,,b=simulator", "MBATS_ACCOUNTS holds ''"),
        ("a=simulator,a=practice", "twice"),
        (f"a=practice:{PRACTICE_ID},b=practice:{PRACTICE_ID}", "both 'a' and 'b'"),
    ],
)
def test_a_setting_that_is_wrong_is_answered_with_what_was_expected(tmp_path, accounts, message):
    with pytest.raises(ConfigError, match=message):
        account_names(settings(tmp_path, accounts=accounts))


def test_an_unknown_account_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UnknownAccount, match="Did you mean 'paper'"):
        resolve(settings(tmp_path), "papr")


def test_the_brokers_clock_is_followed_on_simulators_alone(tmp_path):
    both = settings(tmp_path, accounts="a=simulator,b=practice", oanda_token="t", trader_clock="broker")

    assert resolve(both, "a").environment == "simulator"
    with pytest.raises(ConfigError, match="MBATS_TRADER_CLOCK"):
        resolve(both, "b")


def test_an_empty_token_file_is_no_token(tmp_path):
    found = settings(tmp_path)
    own_token(found, "paper", "")

    with pytest.raises(ConfigError, match="is empty"):
        resolve(found, "paper")
