"""One S3 store for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stores import running_store

from mbats.platform.secret_files import ensure_secrets
from mbats.settings import Settings, load_settings


@pytest.fixture(scope="session")
def store_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a store that is up, with its buckets prepared."""
    home = tmp_path_factory.mktemp("store")
    ensure_secrets(load_settings(home=home))
    with running_store(load_settings(home=home)) as settings:
        yield settings
