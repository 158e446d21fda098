"""Who may use the S3 store, whichever it is: an identity for each job, with the buckets it reads and writes and no others."""

from __future__ import annotations

from dataclasses import dataclass

from mbats.settings import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity: its keys are the settings of these names. It can neither make nor delete a bucket."""

    name: str
    access_key: str
    secret_key: str
    buckets: tuple[str, ...]


def s3_identities(settings: Settings) -> list[Identity]:
    """Those that read and write objects; the admin, who prepares the buckets, is none of them."""
    work = (settings.s3_bucket_marketdata, settings.s3_bucket_artifacts)
    return [
        Identity("mbats", "s3_access_key", "s3_secret_key", work),
        Identity("mlflow", "s3_mlflow_access_key", "s3_mlflow_secret_key", (settings.s3_bucket_mlflow,)),
        Identity("backup", "s3_backup_access_key", "s3_backup_secret_key", (settings.s3_bucket_backups,)),
    ]


__all__ = ["Identity", "s3_identities"]
