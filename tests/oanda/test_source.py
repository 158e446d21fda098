"""OANDA as a source of bars: which account, which vendor, which names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import ACCOUNT, TOKEN, FakeOanda
from pydantic import SecretStr

from mbats.errors import ConfigError, OandaRejected
from mbats.oanda import OandaClient
from mbats.oanda.source import OandaSource
from mbats.settings import load_settings


@pytest.fixture
def client(oanda: FakeOanda) -> Iterator[OandaClient]:
    with OandaClient(oanda.url, SecretStr(TOKEN), attempts=1) as client:
        yield client


@pytest.mark.parametrize(("environment", "vendor"), [("simulator", "simulator"), ("practice", "oanda"), ("live", "oanda")])
def test_simulated_bars_are_never_called_oandas(environment, vendor, tmp_path):
    settings = load_settings(home=tmp_path, oanda_environment=environment, oanda_token="t", simulator_token="s")

    assert OandaSource.from_settings(settings).vendor == vendor


def test_the_account_of_the_settings_comes_before_the_first_of_the_token(client, oanda):
    chosen = OandaSource(client, vendor="oanda", account="101-001-7654321-002")

    assert OandaSource(client, vendor="oanda").account == ACCOUNT
    assert chosen.account == "101-001-7654321-002"
    with pytest.raises(OandaRejected, match="MBATS_OANDA_ACCOUNT"):
        chosen.instruments(["EUR_USD"])


def test_a_token_without_an_account_is_named(client, oanda):
    oanda.answer = lambda path, params: (200, b'{"accounts": []}')

    with pytest.raises(ConfigError, match="The token opens no account at http"):
        OandaSource(client, vendor="oanda").instruments(["EUR_USD"])


def test_one_unknown_name_does_not_hide_the_others(client):
    source = OandaSource(client, vendor="oanda")

    assert [found.name for found in source.instruments(["EUR_USD", "EUR_USDD"])] == ["EUR_USD"]
    assert [found.name for found in source.instruments(["NO_SUCH"])] == []
    assert source.offered() == ["EUR_USD", "USD_JPY"]
