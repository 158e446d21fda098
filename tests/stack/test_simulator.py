"""The simulator as a part of the platform: its streams and its administration are where the platform says they are."""

from __future__ import annotations

import json

import requests
from stack.clients import get
from stack.substrate import Substrate

ACCOUNT = "101-004-1435156-001"


def test_a_stream_begins_with_prices_or_a_heartbeat(stack: Substrate) -> None:
    headers = {"Authorization": f"Bearer {stack.secret('simulator_token')}"}
    url = f"{stack.url('simulator-stream')}/v3/accounts/{ACCOUNT}/pricing/stream?instruments=EUR_USD"

    with requests.get(url, headers=headers, stream=True, timeout=(3.05, 60)) as stream:
        first = json.loads(next(stream.iter_lines()))

    assert stream.status_code == 200
    assert first["type"] in ("PRICE", "HEARTBEAT")


def test_nobody_listens_to_a_stream_without_the_token(stack: Substrate) -> None:
    url = f"{stack.url('simulator-stream')}/v3/accounts/{ACCOUNT}/transactions/stream"

    assert get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_the_page_of_the_administration_shows_the_account(stack: Substrate) -> None:
    page = get(stack.url("simulator-admin"))

    assert page.status_code == 200
    assert ACCOUNT in page.text


def test_no_page_of_a_stranger_sets_a_fault(stack: Substrate) -> None:
    fault = {"match": {"path": "*"}, "action": {"do": "hang"}}
    url = f"{stack.url('simulator-admin')}/faults"

    by_origin = requests.post(url, json=fault, headers={"Origin": "https://example.com"}, timeout=60)
    by_name = requests.post(url, json=fault, headers={"Host": "example.com"}, timeout=60)

    assert (by_origin.status_code, by_name.status_code) == (403, 403)
    assert get(url).json()["faults"] == []
