"""The table that a model is trained on, as Parquet in the S3 store, under a name that says what it was made from."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pandas as pd

from mbats.ml.dataset import Samples
from mbats.ml.material import Material
from mbats.objectstore import ObjectStore
from mbats.settings import Settings

FOLDER = "features"
TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Where the table is: `key` in `bucket`."""

    bucket: str
    key: str
    fingerprint: str

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def keep_table(settings: Settings, material: Material, samples: Samples) -> FeatureTable:
    """Write the samples to `features/<fingerprint>.parquet`, unless they are there: equal names, equal tables.

    Columns: symbol, time (start of the bar, UTC), `feature:NAME` for each feature, `label`, `label_end` (UTC) and
    `cost`. Raises PlatformError or ConfigError when the store does not take them.
    """
    fingerprint = material.fingerprint()
    table = FeatureTable(settings.s3_bucket_artifacts, f"{FOLDER}/{fingerprint}.parquet", fingerprint)
    store = ObjectStore(settings)
    if not store.exists(table.bucket, table.key):
        store.put(table.bucket, table.key, to_parquet(samples), TYPE)
    return table


def to_parquet(samples: Samples) -> bytes:
    """The samples as one file."""
    columns = {"symbol": samples.symbol.astype(object), "time": pd.DatetimeIndex(samples.time).tz_localize("UTC")}
    columns |= {f"feature:{name}": samples.features[:, number] for number, name in enumerate(samples.names)}
    end = pd.DatetimeIndex(samples.end).tz_localize("UTC")
    frame = pd.DataFrame(columns | {"label": samples.value, "label_end": end, "cost": samples.cost})
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


__all__ = ["FeatureTable", "keep_table", "to_parquet"]
