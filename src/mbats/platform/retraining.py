"""The steps of Airflow's DAG `retrain_models`: what is due, one training, and a look at the champions. All values are plain JSON.

Here, and not in `mbats.ml`, because people are told as live trading tells them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from mbats.live.hosting.notices import Level, Notices
from mbats.ml.jobs import choose_jobs
from mbats.ml.retraining import Say, due_models, retrain, watch_champions
from mbats.settings import Settings, get_settings


def plan_retraining(models: Sequence[str] | None = None, *, settings: Settings | None = None) -> list[str]:
    """The models to train now: those named, or else those that are due. Raises UnknownJob, ConfigError, PlatformError."""
    settings = settings or get_settings()
    return list(choose_jobs(settings.root, tuple(models))) if models else due_models(settings)


def retrain_model(model: str, *, settings: Settings | None = None) -> dict[str, Any]:
    """Train one of them; what became of it. Raises what training and the gate raise."""
    settings = settings or get_settings()
    job = choose_jobs(settings.root, (model,))[model]
    with telling(settings) as say:
        return asdict(retrain(settings, model, job, say=say))


def watch_models(*, settings: Settings | None = None) -> dict[str, dict[str, str]]:
    """Measure the drift of every champion; the level of each thing, by version. Raises WatchFailed after all were tried."""
    settings = settings or get_settings()
    with telling(settings) as say:
        found = watch_champions(settings, say=say)
    return {each.info.reference: {row.what: row.level for row in (*each.bars, *each.live)} for each in found}


@contextmanager
def telling(settings: Settings) -> Iterator[Say]:
    """Tell people by MBATS_NOTIFY_URLS, if it names any, and the log. What waits is sent before it ends."""
    notices = Notices.to_addresses(settings.notify_urls)
    try:
        yield lambda level, text: notices.tell(Level(level), text)
    finally:
        notices.close()


__all__ = ["plan_retraining", "retrain_model", "telling", "watch_models"]
