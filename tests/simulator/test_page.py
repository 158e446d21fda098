"""The status page in a real browser: it shows what there is, keeps itself fresh, and runs nothing that a client wrote."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator

import pytest
import requests
from browser import CHROMIUM, Visit, chromium, pictures_folder
from simulator.running import ACCOUNT, TOKEN, Running

pytestmark = pytest.mark.skipif(not CHROMIUM.exists() and not os.environ.get("CI"), reason=f"no browser at {CHROMIUM}")

NASTY = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(params=["light", "dark"])
def visit(request: pytest.FixtureRequest, tmp_path) -> Iterator[Visit]:
    with chromium() as browser:
        visit = Visit(browser, pictures_folder(tmp_path), color_scheme=request.param)
        visit.page.on("console", lambda message: visit.complaints.append(message.text) if message.type == "error" else None)
        yield visit
        visit.end()


def fill(running: Running) -> None:
    """Something of everything that the page shows."""
    running.price("150.100", "150.112", "USD_JPY")
    running.price("1.25000", "1.25015", "GBP_USD")
    running.buy(10_000, order={"stopLossOnFill": {"price": "1.07000"}, "tradeClientExtensions": {"id": NASTY}})
    running.buy(-5_000, "USD_JPY", order={"trailingStopLossOnFill": {"distance": "0.500"}})
    limit = {"type": "LIMIT", "instrument": "EUR_USD", "units": "500", "price": "1.06500", "timeInForce": "GTC"}
    running.account("POST", "/orders", {"order": limit | {"clientExtensions": {"id": "mb-sma_cross-17-3", "comment": NASTY}}})
    running.admin("POST", "/halt", {"instrument": "GBP_USD"})
    running.fault({"do": "delay", "seconds": 0.5, "when": "after"}, method="PUT", path=f"*/{NASTY}", probability=0.3)
    running.fault({"do": "drop"}, message="ORDER_FILL", nth=3)
    running.account("GET", f"/orders/@{NASTY}")
    running.account("GET", "/summary")


def test_the_page_shows_accounts_prices_orders_trades_and_faults(fresh, visit):
    fill(fresh)
    visit.page.goto(fresh.admin_url)
    scheme = visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    visit.look(f"simulator-{scheme}")
    text = visit.page.inner_text("main")

    for shown in (
        ACCOUNT,
        "100,000.00",
        "1.08010",
        "150.112",
        "open",
        "closed",
        "TRAILING_STOP_LOSS",
        "mb-sma_cross-17-3",
        "10000",
    ):
        assert shown in text
    *tables, requested = [table.inner_text() for table in visit.page.query_selector_all("h2")]
    assert tables == ["Accounts 1", "Prices 3", "Pending orders 3", "Open trades 2", "Active faults 2"]
    assert requested in ("Last requests 5", "Last requests 6")  # one of the test before may have ended meanwhile
    assert (visit.complaints, visit.left_for) == ([], [])


def test_what_a_client_writes_stays_a_text(fresh, visit):
    fill(fresh)
    visit.page.goto(fresh.admin_url)
    visit.wait_until("() => performance.getEntriesByType('resource').length > 2")  # it has refreshed itself

    assert visit.page.title() == "OANDA v20 simulator"
    assert visit.page.locator("main img, main script").count() == 0
    assert visit.page.inner_text("main").count(NASTY) >= 2
    assert TOKEN not in visit.page.content()
    assert (visit.complaints, visit.left_for) == ([], [])


def test_it_keeps_itself_fresh_and_says_when_it_cannot(fresh, visit):
    visit.page.goto(fresh.admin_url)
    visit.page.evaluate("window.same = true")
    assert "No trade is open." in visit.page.inner_text("main")
    fresh.buy(1234)

    visit.wait_until("() => document.querySelector('main').innerText.includes('1234')")
    assert visit.page.evaluate("window.same")
    visit.context.set_offline(True)
    visit.wait_until("() => !document.getElementById('lost').hidden")
    visit.context.set_offline(False)
    visit.wait_until("() => document.getElementById('lost').hidden")


def test_the_page_may_load_nothing_and_be_framed_by_nobody(fresh):
    headers = requests.get(fresh.admin_url, timeout=30).headers
    policy = headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert "'unsafe-inline'" not in policy
    assert "frame-ancestors 'none'" in policy
    assert requests.get(fresh.admin_url, timeout=30).headers["Content-Security-Policy"] != policy


def test_a_page_of_another_site_cannot_drive_the_exchange(fresh, visit):
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>stranger</title>")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    attempts = """async address => {
        const said = [];
        const tries = [
            ["/clock/step", {method: "POST", mode: "no-cors", body: '{"seconds": 60}'}],
            ["/clock/step", {method: "POST", headers: {"Content-Type": "application/json"}, body: '{"seconds": 60}'}],
            ["/faults", {method: "DELETE"}],
            ["/journal", {}],
            ["/", {mode: "no-cors"}],
        ];
        for (const [path, options] of tries) {
            try {
                const answer = await fetch(address + path, options);
                said.push((await answer.text()).length);
            } catch (error) {
                said.push(error.name);
            }
        }
        return said;
    }"""
    fresh.fault("hang", path="/never")
    before = fresh.admin("GET", "/clock")["time"]
    try:
        # To a browser, localhost and 127.0.0.1 are two sites.
        visit.page.goto(f"http://localhost:{server.server_port}/")
        said = visit.page.evaluate(attempts, fresh.admin_url)
    finally:
        server.shutdown()
        server.server_close()

    assert [each for each in said if each not in ("TypeError", 0)] == []
    assert fresh.admin("GET", "/clock")["time"] == before
    assert len(fresh.admin("GET", "/faults")["faults"]) == 1
