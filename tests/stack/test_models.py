"""A model on the running platform, by the command line alone: trained, made champion, and pinned by what trades with it."""

from __future__ import annotations

import json

from platforms import eventually
from stack import clients

STRATEGY, DEPLOYMENT = "rsi_stochastic", "with_a_model"
WHY = "To be traded in a test."
BACK = 120.0  # seconds for a process that loads a model, on a machine that is busy


def test_a_model_is_trained_made_champion_and_pinned_by_a_deployment(stack):
    bars = ("--symbols", "EUR_USD", "--granularity", "D")
    stack.mbats("train", STRATEGY, *bars, "--param", "edge=-1", timeout=600)
    # What the gate says depends on the market of the day; where it refuses, a person lets the model pass.
    passed = stack.mbats("promote", STRATEGY, "--why", WHY, check=False).returncode == 0
    if not passed:
        stack.mbats("promote", STRATEGY, "--why", WHY, "--override")

    moves = "SELECT action, overridden, why, version FROM model_promotion ORDER BY id DESC LIMIT 1"
    ((action, overridden, why, version),) = clients.rows(stack, "reader", "risk", moves)
    assert (action, overridden, why) == ("promote", not passed, WHY)
    assert "champion" in stack.mbats("models", STRATEGY).stdout

    stack.mbats("deploy", STRATEGY, *bars, "--param", f"model={STRATEGY}@champion", "--name", DEPLOYMENT)
    try:
        listed = {each["name"]: each for each in json.loads(stack.mbats("deployments", "--json").stdout)}
        assert f"{STRATEGY}/{version}" in listed[DEPLOYMENT]["model"]
        trader = clients.Trader(stack)
        assert eventually(lambda: trader.deployments()[DEPLOYMENT]["state"] == "live", within=BACK), trader.deployments()
    finally:
        stack.mbats("stop", DEPLOYMENT, check=False)
