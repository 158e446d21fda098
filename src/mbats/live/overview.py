"""What the trader tells of itself: each deployment and account in plain values, and figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mbats.live.deployment import Deployment, State
from mbats.live.gate import TradingState
from mbats.live.hosting.desk import DeploymentStatus
from mbats.live.hosting.host import Host, Hosted
from mbats.live.hosting.metrics import Metrics
from mbats.live.mirror import Mirror
from mbats.live.models import in_words
from mbats.live.venue import Venue
from mbats.riskdb.live_records import DeploymentRecord

_SAME = (
    *("name", "strategy", "source", "parameters", "symbols", "granularity", "account", "limits"),
    *("created_at", "created_by", "code_version", "seed", "warmup_bars", "warmup_from", "extra"),
)


def account_state(venue: Venue) -> dict[str, Any]:
    """An account; `why` says why nothing may be opened on it, where that is so."""
    if venue.owner is None:
        return {"live": False, "why": "not open"}
    state = venue.owner.state()
    if venue.owner.failed is not None:
        state["why"] = str(venue.owner.failed)
    elif not state.get("live"):
        state.setdefault("why", f"not in step with the broker ({state.get('step', 'starting')})")
    elif state.get("fenced"):
        state["why"] = state["fenced"]
    return state


def status_of(deployment: Deployment, hosted: Hosted, venue: Venue | None, last_bar: datetime | None) -> DeploymentStatus:
    """A deployment as people see it."""
    state = account_state(venue) if venue is not None else {}
    pnl = state.get("realised", {}).get(deployment.name)
    trading = state.get("gates", {}).get(deployment.name) or state.get("gate") or TradingState.ACTIVE
    return DeploymentStatus(
        name=deployment.name,
        strategy=deployment.strategy,
        symbols=deployment.symbols,
        granularity=deployment.granularity,
        account=deployment.account,
        mode=deployment.mode,
        desired=deployment.desired,
        state=hosted.state,
        trading=TradingState(trading),
        reason=hosted.reason or (_why_idle(state, deployment.name) if hosted.state is State.LIVE else ""),
        positions=positions_of(venue, deployment.name),
        orders=sum(state.get("open_intents_of", {}).get(deployment.name, {}).values()),
        pnl=None if pnl is None else Decimal(pnl),
        currency=str(state.get("currency", "")),
        last_bar=last_bar,
        since=hosted.since,
        restarts=hosted.restarts,
        model=in_words(deployment),
    )


def _why_idle(state: dict[str, Any], name: str) -> str:
    """Why a deployment that lives does not trade, or holds."""
    return str(state.get("why") or state.get("models", {}).get(name, ""))


def positions_of(venue: Venue | None, name: str) -> dict[str, Decimal]:
    """What a deployment holds, in signed units by symbol."""
    state = venue.owner.state() if venue is not None and venue.owner is not None else {}
    own = {key.split(" ")[1]: Decimal(units) for key, units in state.get("positions", {}).items() if key.split(" ")[0] == name}
    return own


def record_of(deployment: Deployment, hosted: Hosted, venue: Venue | None) -> DeploymentRecord:
    """A deployment for the risk database."""
    given = {name: getattr(deployment, name) for name in _SAME}
    return DeploymentRecord(
        **given,
        account_id=venue.account_id if venue is not None else "",
        mode=str(deployment.mode),
        desired=str(deployment.desired),
        state=str(hosted.state),
        reason=hosted.reason,
        updated_at=datetime.now(UTC),
    )


def watch_figures(
    metrics: Metrics, venues: Mapping[str, Venue], deployments: Mapping[str, Deployment], host: Host, mirror: Mirror
) -> None:
    """Let Prometheus read what the accounts and deployments are."""

    def each(figure: str) -> Callable[[], dict[tuple[str, ...], float]]:
        def read() -> dict[tuple[str, ...], float]:
            owners = {name: venue.owner for name, venue in venues.items() if venue.owner is not None}
            return {(name,): float(owner.state().get(figure, 0) or 0) for name, owner in owners.items()}

        return read

    for figure, what in (
        ("live", "Whether the account is in step with its broker."),
        ("last_transaction", "The last transaction that was applied."),
        ("nav", "What the account is worth."),
        ("balance", "The account's balance."),
        ("margin_used", "Margin used."),
        ("repeated", "Transactions that came more than once."),
        ("crashes", "Errors that the owner's thread survived."),
        ("in_flight", "Requests that are under way."),
    ):
        metrics.watch_each(f"account_{figure}", what, ("account",), each(figure))
    metrics.watch_each(
        "outbox_waiting",
        "Records that wait for PostgreSQL.",
        ("account",),
        lambda: {(name or "trader",): lag.waiting for name, lag in mirror.lag().items()},
    )
    metrics.watch_each(
        "deployment_live",
        "Whether the deployment's process is live.",
        ("deployment",),
        lambda: {(name,): float(host.hosted(name).state is State.LIVE) for name in deployments},
    )
