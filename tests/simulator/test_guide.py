"""What docs/simulator.md says is so: names of faults, calls of the admin port, settings, the example of accounts."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from pydantic import SecretStr

from mbats.settings import PROJECT_ROOT, Settings
from mbats.simulator.admin.api import ROUTES
from mbats.simulator.config import read_config
from mbats.simulator.faults.actions import DEEDS, ON_MESSAGES, ON_REQUESTS, Point

GUIDE = (PROJECT_ROOT / "docs" / "simulator.md").read_text()


def named(*kinds: type) -> set[str]:
    return {get_args(kind.model_fields["do"].annotation)[0] for kind in kinds}


def section(title: str) -> str:
    return GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("row", "kinds"), [("requests", ON_REQUESTS), ("messages", ON_MESSAGES)])
def test_the_guide_names_every_fault_of_requests_and_of_messages(row, kinds):
    cells = re.search(rf"^\| {row} \| (.*) \|$", section("Faults"), re.MULTILINE)

    assert cells is not None
    assert set(re.findall(r"`(\w+)`", cells[1])) - {"before", "after"} == named(*kinds)


def test_the_guide_names_every_deed_and_every_point_at_which_the_process_can_be_killed():
    rows = re.findall(r"^\| (?:the market|accounts|connections|the process) \| (.*) \|$", section("Faults"), re.MULTILINE)
    told = set(re.findall(r"`(\w+)`", " ".join(rows)))

    assert told == named(*DEEDS) | set(get_args(Point))


def test_the_guide_names_every_call_of_the_admin_port():
    told = set(re.findall(r"/[a-z_]+", section("Administration") + section("Faults")))

    known = {part for _, path, _ in ROUTES for part in re.findall(r"/[a-z_]+", path)}
    assert known <= told


def test_every_setting_that_the_guide_names_exists():
    names = set(re.findall(r"MBATS_\w+", GUIDE))

    assert names
    assert {name.removeprefix("MBATS_").lower() for name in names} <= set(Settings.model_fields)


def test_the_example_of_accounts_is_read_as_it_stands(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert example is not None
    token = tmp_path / "dashboard"
    token.write_text("another")
    file = tmp_path / "accounts.yaml"
    file.write_text(example[1].replace("/run/secrets/dashboard", str(token)))

    config = read_config(file, lambda name: SecretStr(name))

    assert [account.hedging for account in config.accounts] == [False, True, False]
