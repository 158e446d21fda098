"""Somebody opens each page in a real browser, logs in, and sees what is promised. Nothing is asked of another machine."""

from __future__ import annotations

import json

import playwright.sync_api as playwright
import pytest
from browser import Visit
from platforms import eventually
from stack.clients import PGADMIN_USER, USER, Airflow

PAINTED = """canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(new Uint32Array(pixels.buffer)).size;
}"""


def log_in(visit: Visit, address: str, **form: str) -> None:
    """Open the address and send the form that it shows: names of fields, and what is typed into them."""
    visit.page.goto(address, wait_until="networkidle")  # a form that its script has not taken over yet loses what is typed
    fields = {name: visit.page.locator(f"input[name={name}], input#{name}").first for name in form}
    for name, field in fields.items():
        field.fill(form[name])
    fields["password"].press("Enter")


def test_airflow_lists_our_dags_and_no_examples(stack, visit):
    seen = visit()
    log_in(seen, stack.url("airflow"), username=USER, password=stack.secret("airflow_password"))
    seen.page.get_by_role("link", name="Dags").first.click()

    for dag in ("download_market_data", "backup"):
        seen.page.get_by_role("link", name=dag, exact=True).first.wait_for()
    seen.look("airflow")
    assert set(Airflow(stack).dags()) == {"backup", "download_market_data", "repair_gaps", "retrain_models"}


def test_superset_shows_the_runs_of_the_first_run_and_paints_their_curves(stack, visit):
    runs = json.loads(stack.mbats("runs", "--json").stdout)
    seen = visit()

    log_in(seen, f"{stack.url('superset')}/login/", username=USER, password=stack.secret("superset_password"))
    seen.page.get_by_text("Backtests", exact=True).first.click()

    for title in ("Equity", "Drawdown", "Costs"):
        chart = seen.page.locator(f"[data-test-chart-name={title}] canvas").first
        chart.scroll_into_view_if_needed()
        assert eventually(lambda chart=chart: chart.evaluate(PAINTED) > 10), f"{title} is not painted"
    seen.look("superset")
    for strategy in {run["strategy"] for run in runs}:
        seen.page.locator("td").get_by_text(strategy).first.scroll_into_view_if_needed()
    seen.look("superset-table")


def test_mlflow_shows_its_experiments_behind_its_login(stack, visit):
    url, stranger = stack.url("mlflow"), visit()
    with pytest.raises(playwright.Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        stranger.page.goto(url)

    user = visit(http_credentials={"username": USER, "password": stack.secret("mlflow_password")})
    user.page.goto(f"{url}/#/experiments")

    user.page.get_by_role("link", name="Default").first.wait_for()
    user.page.get_by_role("link", name="Model registry").wait_for()
    assert user.page.get_by_text("Assistant").locator("visible=true").count() == 0, "it would lie over the page"
    user.look("mlflow")


def test_jupyter_opens_with_the_token_and_holds_notebooks_and_strategies(stack, visit):
    seen = visit()
    seen.page.goto(f"{stack.url('jupyter')}/lab")
    assert seen.page.get_by_text("Setup a Password").count() == 0, "it would open the door when the token is another one"
    log_in(seen, f"{stack.url('jupyter')}/lab", password=stack.secret("jupyter_token"))

    files = seen.page.locator(".jp-DirListing-itemText")
    files.get_by_text("first_look.ipynb", exact=True).wait_for()
    seen.look("jupyter")
    assert "Dockerfile" not in files.all_text_contents()
    seen.page.goto(f"{stack.url('jupyter')}/lab/tree/strategies")
    files.get_by_text("sma_cross.py", exact=True).wait_for()


def test_pgadmin_has_both_databases_in_its_tree(stack, visit):
    seen = visit()
    log_in(seen, f"{stack.url('pgadmin')}/login", email=PGADMIN_USER, password=stack.secret("pgadmin_password"))

    labels = seen.page.locator(".file-label")
    for branch in (
        labels.get_by_text("MBATS", exact=True).last,
        labels.get_by_text("Databases"),
        labels.get_by_text("risk", exact=True),
    ):
        branch.dblclick()
    labels.get_by_text("Schemas").first.wait_for()
    seen.look("pgadmin")
    assert {"risk", "secmaster"} <= set(labels.all_text_contents())
