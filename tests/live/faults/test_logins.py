"""A token that the broker refuses stops everything and tells a person; the broker is not asked on and on (R30)."""

from __future__ import annotations

import time

import pytest
from live.faults.records import risk_events
from live.trading import Trader

from mbats.live.gate import CommandKind
from mbats.live.wire import Form, Status


def halted(trader: Trader) -> bool:
    return str(trader.owner._account.gate.state.everything.state) == "HALTED"


@pytest.mark.proves("R30")
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("at", ["an order", "everything", "a flatten"])
def test_a_token_that_is_revoked_halts_everything_and_makes_no_storm(trader: Trader, status: int, at: str) -> None:
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.minute()
    body = {"errorMessage": "Insufficient authorization to perform request."}
    path = "*/orders" if at == "an order" else "*"
    method = {"method": "POST"} if at == "an order" else {}
    revoked = trader.simulator.fault({"do": "answer", "status": status, "body": body}, path=path, **method)

    if at == "a flatten":
        trader.command(CommandKind.FLATTEN)
    elif at == "an order":
        assert trader.ended(trader.submit(1000), Status.REJECTED).reason == ("UNAUTHORIZED" if status == 401 else "FORBIDDEN")
    else:
        ref = trader.submit(1000, form=Form.MARKET)
        trader.simulator.deed("disconnect")
        trader.wait_for(lambda: trader.events(ref))
    trader.wait_for(lambda: halted(trader) and trader.owner._account.denied)
    if at != "an order":
        trader.wait_for(lambda: trader.owner.state().get("step") == "refused")

    (alarm,) = [event for event in risk_events(trader, "alarm") if event.code == "login_refused"]
    assert (alarm.level, str(status) in alarm.sentence) == ("critical", True)
    assert [level for level, title, _ in trader.said.notices if "login refused" in title] == ["critical"]
    time.sleep(0.3)  # what was under way
    asked = trader.simulator.hits(revoked)
    time.sleep(2.0)
    assert trader.simulator.hits(revoked) == asked
    assert 0 < asked < 20


@pytest.mark.proves("R30")
def test_after_the_token_is_mended_a_person_resumes_and_trading_goes_on(trader: Trader) -> None:
    trader.deploy()
    trader.settle()
    revoked = trader.simulator.fault({"do": "answer", "status": 401}, path="*")
    trader.simulator.deed("disconnect")
    trader.wait_for(lambda: halted(trader) and trader.owner.state().get("step") == "refused")
    assert trader.simulator.hits(revoked) > 0
    trader.simulator.admin("DELETE", "/faults")
    trader.simulator.step(60)
    time.sleep(0.5)
    assert trader.owner.state().get("step") == "refused"

    trader.command(CommandKind.RESUME)

    trader.settle()
    trader.minute()
    trader.ended(trader.submit(1000), Status.COMPLETED)
