"""Figures of the trader, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from mbats.live.hosting.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples}


def test_what_is_counted_is_shown_with_its_labels():
    metrics = Metrics()
    metrics.order("paper", "filled")
    metrics.order("paper", "filled")
    metrics.fill("paper", "rsi")
    metrics.refused("rsi", "MARGIN")
    metrics.stream("paper", "pricing", up=False)
    metrics.died("rsi")
    metrics.alarm("critical")
    metrics.error("mirror")
    metrics.bar("M5", 0.7)
    metrics.answered("paper", 0.02)

    found = samples(metrics)

    assert found["mbats_trader_orders_total", (("account", "paper"), ("state", "filled"))] == 2
    assert found["mbats_trader_fills_total", (("account", "paper"), ("owner", "rsi"))] == 1
    assert found["mbats_trader_gate_refusals_total", (("deployment", "rsi"), ("reason", "MARGIN"))] == 1
    assert found["mbats_trader_stream_changes_total", (("account", "paper"), ("stream", "pricing"), ("to", "down"))] == 1
    assert found["mbats_trader_deaths_total", (("deployment", "rsi"),)] == 1
    assert found["mbats_trader_alarms_total", (("level", "critical"),)] == 1
    assert found["mbats_trader_errors_total", (("part", "mirror"),)] == 1
    assert found["mbats_trader_bar_seconds_bucket", (("granularity", "M5"), ("le", "0.5"))] == 0
    assert found["mbats_trader_bar_seconds_bucket", (("granularity", "M5"), ("le", "1.0"))] == 1
    assert found["mbats_trader_order_seconds_sum", (("account", "paper"),)] == 0.02


def test_what_is_watched_is_read_when_somebody_asks():
    metrics, rows = Metrics(), [1]
    states = {("paper", "ACTIVE"): 1.0}
    metrics.watch("outbox_rows", "Rows that wait.", lambda: len(rows))
    metrics.watch_each("owner_state", "Its state.", ("account", "state"), lambda: states)
    rows.append(2)

    assert samples(metrics)["mbats_trader_outbox_rows", ()] == 2
    assert samples(metrics)["mbats_trader_owner_state", (("account", "paper"), ("state", "ACTIVE"))] == 1
    states.clear()
    assert not any(name == "mbats_trader_owner_state" for name, _ in samples(metrics)), "an account that is gone shows nothing"


def test_a_figure_that_cannot_be_read_hides_no_other_and_is_counted(caplog):
    metrics = Metrics()
    metrics.watch("broken", "Fails.", lambda: 1 / 0)
    metrics.watch("sound", "Does not.", lambda: 7)

    metrics.text()
    found = samples(metrics)

    assert found["mbats_trader_sound", ()] == 7
    assert not any(name == "mbats_trader_broken" for name, _ in found)
    assert found["mbats_trader_unreadable_figures_total", (("figure", "mbats_trader_broken"),)] >= 1
    assert "mbats_trader_broken" in caplog.text


def test_two_traders_do_not_share_their_figures():
    one, other = Metrics(), Metrics()
    one.died("rsi")

    assert not any(name == "mbats_trader_deaths_total" for name, _ in samples(other))
