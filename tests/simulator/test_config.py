"""The file of users, tokens and accounts: what it means, and what is said about every mistake in it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from mbats.errors import ConfigError
from mbats.settings import load_settings
from mbats.simulator.config import Options, SimulatorConfig, User, read_config
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.instruments import listing, terms

SECRETS = {"simulator_token": "the-platforms-own"}


def secrets(name: str) -> SecretStr:
    return SecretStr(SECRETS[name]) if name in SECRETS else load_settings().required_secret(name)


def read(folder: Path, text: str) -> SimulatorConfig:
    file = folder / "simulator.yaml"
    file.write_text(text, encoding="utf-8")
    return read_config(file, secrets)


FULL = """
users:
  - name: bot
    tokens:
      - {token: by-value, scopes: [read]}
      - {token_secret: simulator_token}
      - {token_file: FILE, scopes: [trade, read]}
    accounts:
      - {id: 101-004-1435156-001, currency: EUR, balance: 2500.5, hedging: true, aggregation: NET_SUM}
      - {id: 101-004-1435156-002, margin_rate: 0.05, fifo: true, financing: NO_FINANCING, alias: Second}
  - name: guest
    tokens: [{token: other}]
    accounts: [{id: 101-004-7-001}]
options:
  {latency_ms: 40, slippage_points: 2, candle_lag_seconds: 3.5, future_to: clamp,
   requests_per_second: 10, max_streams: 3, streams_per_second: 1}
"""


def test_every_key_is_read(tmp_path):
    (tmp_path / "token").write_text("from-a-file\n")
    config = read(tmp_path, FULL.replace("FILE", str(tmp_path / "token")))

    bot, guest = config.users
    assert [token.secret.get_secret_value() for token in bot.tokens] == ["by-value", "the-platforms-own", "from-a-file"]
    assert [token.scopes for token in bot.tokens] == [{"read"}, {"read", "trade"}, {"read", "trade"}]
    assert bot.accounts == (
        AccountConfig("101-004-1435156-001", currency="EUR", balance=Decimal("2500.5"), hedging=True, aggregation="NET_SUM"),
        AccountConfig("101-004-1435156-002", alias="Second", margin_rate=Decimal("0.05"), fifo=True, financing="NO_FINANCING"),
    )
    assert guest.accounts == (AccountConfig("101-004-7-001"),)
    assert config.accounts == (*bot.accounts, *guest.accounts)
    assert config.options == Options(40, 2, 3.5, "clamp", 10.0, 3, 1.0)


def test_without_a_file_there_is_one_user_with_the_platforms_token_and_one_account():
    config = read_config(None, secrets)

    assert [user.name for user in config.users] == ["default"]
    assert config.users[0].tokens[0].secret.get_secret_value() == "the-platforms-own"
    assert config.users[0].tokens[0].scopes == {"read", "trade"}
    assert [account.id for account in config.accounts] == ["101-004-1435156-001"]
    assert config.options == Options()


def test_without_a_file_and_without_the_secret_there_is_nothing_to_open(tmp_path, monkeypatch):
    monkeypatch.setattr("mbats.settings.env_file", lambda: tmp_path / "none")
    monkeypatch.delenv("MBATS_SIMULATOR_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="No secret 'simulator_token'"):
        read_config(None, load_settings(home=tmp_path).required_secret)


def user(tokens: str = "[{token: t}]", accounts: str = "[{id: 1-2-3-4}]", more: str = "") -> str:
    return f"users: [{{name: bot, tokens: {tokens}, accounts: {accounts}}}{more}]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("users: [", "is no YAML: line 1"),
        ("", "a mistake at users: "),
        ("- a\n- b", "a mistake at users.0: "),
        ("users: []", "a mistake at users: "),
        (user() + "\noptions: {latency: 3}", "a mistake at options.latency: Extra inputs are not permitted (found 3)"),
        (user() + "\noptions: {candle_lag_seconds: 8}", "a mistake at options.candle_lag_seconds"),
        (user() + "\noptions: {future_to: maybe}", "(found 'maybe')"),
        (user(tokens="[]"), "a mistake at users.0.tokens"),
        (user(tokens="[{}]"), "a token needs exactly one of token, token_secret and token_file"),
        (user(tokens="[{token: t, token_secret: simulator_token}]"), "a token needs exactly one of"),
        (user(tokens="[{token: t, scopes: []}]"), "users.0.tokens.0.scopes"),
        (user(tokens="[{token: t, scopes: [write]}]"), "users.0.tokens.0.scopes"),
        (user(tokens="[{token_secret: nothing}]"), "names the secret 'nothing', and the platform has none of that name"),
        (user(tokens="[{token_secret: home}]"), "names the secret 'home', and the platform has none of that name"),
        (user(tokens="[{token_file: /nowhere/at/all}]"), "names the token file /nowhere/at/all, which cannot be read"),
        (user(tokens="[{token: ''}]"), "has an empty token"),
        (user(tokens="[{token: schlüssel}]"), "has a token that no header can carry"),
        (user(tokens="[{token: t}, {token: t}]"), "gives the same token twice"),
        (user(accounts="[{id: mine}]"), "a mistake at users.0.accounts.0.id"),
        (user(accounts="[{id: 1-2-3-4}, {id: 1-2-3-4}]"), "gives the account id 1-2-3-4 twice"),
        (user(accounts="[{id: 1-2-3-4, balance: 0}]"), "users.0.accounts.0.balance: Input should be greater than 0 (found 0)"),
        (user(accounts="[{id: 1-2-3-4, balance: 0.00001}]"), "users.0.accounts.0.balance"),
        (user(accounts="[{id: 1-2-3-4, currency: euro}]"), "users.0.accounts.0.currency"),
        (user(accounts="[{id: 1-2-3-4, margin_rate: 2}]"), "users.0.accounts.0.margin_rate"),
        (user(accounts="[{id: 1-2-3-4, hedging: true, fifo: true}]"), "an account cannot have both hedging and fifo"),
        (
            user(accounts="[{id: 1-2-3-4, colour: red}]"),
            "users.0.accounts.0.colour: Extra inputs are not permitted (found 'red')",
        ),
        (
            user(more=", {name: bot, tokens: [{token: u}], accounts: [{id: 1-2-3-5}]}"),
            "gives the user bot twice",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, words):
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, text)

    message = str(refusal.value)
    assert words in message
    assert message.startswith(f"MBATS_SIMULATOR_CONFIG names {tmp_path / 'simulator.yaml'}, which ")
    assert message.endswith("The simulator was not started; correct the file.")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        read_config(tmp_path / "nothing.yaml", secrets)
    (tmp_path / "bytes.yaml").write_bytes(b"users: \xff")
    with pytest.raises(ConfigError, match="is no YAML"):
        read_config(tmp_path / "bytes.yaml", secrets)


@pytest.mark.parametrize(
    "tokens", ["[{token: geheim, scopes: [write]}]", "[{token: [geheim]}]", "[{token: geheim, key: geheim}]"]
)
def test_a_token_is_never_quoted(tmp_path, tokens):
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, user(tokens=tokens))

    assert "geheim" not in str(refusal.value)
    assert "geheim" not in repr(read(tmp_path, user(tokens="[{token: geheim}]")))


def test_an_account_must_be_kept_in_a_currency_that_the_market_can_convert():
    def kept_in(currency: str) -> SimulatorConfig:
        return SimulatorConfig((User("bot", (), (AccountConfig(currency=currency),)),))

    majors = listing().values()
    for currency in ("USD", "EUR", "JPY", "CHF"):
        kept_in(currency).check_market(majors)
    with pytest.raises(ConfigError, match="kept in SEK, into which this market cannot convert AUD, CAD, CHF, EUR"):
        kept_in("SEK").check_market(majors)
    with pytest.raises(ConfigError, match="kept in EUR, into which this market cannot convert GBP, JPY"):
        kept_in("EUR").check_market([terms("EUR_USD"), terms("GBP_JPY")])
