"""`mbats deploy`: hand a strategy to the trader, with parameters and limits. What is wrong is said before anything is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mbats.cli.backtest import read_pairs

if TYPE_CHECKING:
    from mbats.live.accounts import AccountRef


@click.command()
@click.argument("strategy")
@click.option("--symbols", required=True, help="Comma-separated, such as EUR_USD,USD_JPY; in this order the strategy gets them.")
@click.option("--granularity", required=True, help="Length of a bar: M1, M5, H1, H4, D, …")
@click.option("--account", default="paper", show_default=True, help="One of MBATS_ACCOUNTS.")
@click.option("--name", help="Name of the deployment; its orders carry it. Default: that of the strategy.")
@click.option("--param", "given", multiple=True, callback=read_pairs, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=read_pairs,
    metavar="NAME=VALUE",
    help="A limit of the risk gate; may be repeated.",
)
@click.option("--warmup", type=click.IntRange(min=0), metavar="BARS", help="Bars of history for indicators. Default: 500.")
@click.option("--seed", default=1, show_default=True, help="Seed of random numbers that the strategy may draw.")
@click.option("--shadow", default="", metavar="NAME@ALIAS", help="A model that is asked at each bar and never obeyed.")
@click.option("--stopped", is_flag=True, help="Store it and do not start it; `mbats start NAME` does.")
def deploy(
    strategy: str,
    symbols: str,
    granularity: str,
    account: str,
    name: str | None,
    given: dict[str, str],
    limits: dict[str, str],
    warmup: int | None,
    seed: int,
    shadow: str,
    stopped: bool,
) -> None:
    """Let the trader trade STRATEGY (a file in strategies/) as the file is now: a later change of it changes nothing.

    A model, as in --param model=rsi_stochastic@champion, is looked up now and at every `mbats start`, and stays so in between.
    """
    from datetime import UTC, datetime

    from mbats.cli.granularity import read_granularity
    from mbats.cli.trading_state import who
    from mbats.live.accounts import resolve
    from mbats.live.deployment import Deployment, Desired
    from mbats.live.gate import read_limits
    from mbats.live.hosting.client import TraderClient
    from mbats.live.ids import check_name
    from mbats.live.models import SHADOW
    from mbats.settings import get_settings
    from mbats.trading.session import code_version
    from mbats.trading.strategies import load_strategy

    settings = get_settings()
    chosen = check_name(name or strategy.lower())
    length = read_granularity(granularity)
    loaded = load_strategy(strategy, settings.strategies_dir)
    parameters = loaded.parameters(given)
    read_limits(limits, where="--limit")
    place = resolve(settings, account)
    wanted = tuple(dict.fromkeys(each.strip() for each in symbols.split(",") if each.strip()))
    require_symbols(place, wanted)
    deployment = Deployment(
        name=chosen,
        strategy=strategy,
        source=loaded.source,
        parameters=parameters,
        symbols=wanted,
        granularity=length.value,
        account=account,
        mode=place.mode,
        limits=dict(limits),
        created_at=datetime.now(UTC),
        created_by=who(),
        code_version=code_version(settings.root),
        seed=seed,
        warmup_bars=warmup,
        desired=Desired.STOPPED if stopped else Desired.RUNNING,
        extra={SHADOW: shadow} if shadow else {},
    )
    TraderClient(settings).deploy(deployment)
    money = "REAL MONEY" if place.environment == "live" else f"paper money ({place.environment})"
    click.echo(f"'{chosen}' is deployed on account '{account}', {money}: {strategy} on {', '.join(wanted)}, bars of {length}.")
    click.echo(f"It waits for `mbats start {chosen}`." if stopped else "It starts now; `mbats deployments` shows how it goes on.")


def require_symbols(place: AccountRef, symbols: tuple[str, ...]) -> None:
    """Raise UnknownSymbol unless the account can trade all of them, and OandaError when that cannot be found out."""
    from mbats.errors import OandaUnavailable, UnknownSymbol, UsageError
    from mbats.oanda.client import OandaClient

    if not symbols:
        raise UsageError("--symbols names none; expected some such as EUR_USD,USD_JPY. Nothing was deployed.")
    with OandaClient(place.url, place.token, stream_url=place.stream_url, attempts=2) as client:
        try:
            known = [each.name for each in client.instruments(place.account_id or client.accounts()[0])]
        except OandaUnavailable as error:
            message = f"{error} So nobody knows whether account '{place.name}' has {', '.join(symbols)}; nothing was deployed."
            raise OandaUnavailable(message) from None
    for symbol in symbols:
        if symbol not in known:
            raise UnknownSymbol(symbol, known, where=f"account '{place.name}'")


__all__ = ["deploy", "require_symbols"]
