"""Prepares the S3 store as `minio/buckets.toml` says: buckets, versioning, lifecycle, and the files that stand there first.

The steps speak through MinIO's own client, and so do the same to `weed`, MinIO or S3 itself. Everything else reads and
writes objects through `mbats.objectstore`.
"""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import urllib3
from minio import Minio, MinioAdmin
from minio.commonconfig import ENABLED, Filter
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, NoncurrentVersionExpiration, Rule
from minio.versioningconfig import VersioningConfig

from mbats.errors import ConfigError, PlatformError
from mbats.ingest.sample import sample_workbook
from mbats.ingest.tickers import WORKBOOK
from mbats.platform.s3_identities import Identity, s3_identities
from mbats.platform.service import CHECK_TIMEOUT
from mbats.settings import Settings

# Made on the day on which they are missing, so that nothing binary and no old date lies in the repository.
SEEDS: dict[str, Callable[[date], bytes]] = {WORKBOOK: sample_workbook}


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one bucket is to be. Days of 0 mean never; `seeds` are keys of SEEDS."""

    name: str
    versioning: bool
    delete_old_versions_after_days: int
    abort_uploads_after_days: int
    seeds: tuple[str, ...]


def read_buckets(file: Path, settings: Settings) -> list[Bucket]:
    """The buckets that the file describes. Section `x` is named by the setting `s3_bucket_x`. Raises ConfigError."""
    try:
        sections = tomllib.loads(file.read_text())
        return [
            Bucket(
                name=getattr(settings, f"s3_bucket_{section}"),
                versioning=values["versioning"],
                delete_old_versions_after_days=values["delete_old_versions_after_days"],
                abort_uploads_after_days=values["abort_uploads_after_days"],
                seeds=tuple(values["seeds"]),
            )
            for section, values in sections.items()
        ]
    except (OSError, tomllib.TOMLDecodeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{file} cannot be used: {error!r}. The S3 store was not changed. minio/README.md says what it holds."
        ) from None


def prepare_store(settings: Settings, say: Callable[[str], None]) -> None:
    """Make what is missing and say so of each bucket and file; safe to repeat. Raises PlatformError or ConfigError."""
    client = _client(settings)
    try:
        if settings.s3_kind == "minio":  # SeaweedFS reads its identities from a file, and of another store they are not ours
            prepare_identities(_minio_admin(settings), settings, say)
        for bucket in read_buckets(settings.root / "minio" / "buckets.toml", settings):
            _prepare(client, bucket, settings.s3_region, say)
    except S3Error as error:
        raise ConfigError(
            f"The S3 store at {settings.s3_url} refused to be prepared: {error.code}, {error.message} "
            f"({error.bucket_name or 'no bucket'}). What was said before is done. See the keys in {settings.secrets_dir}."
        ) from error
    except MinioAdminException as error:
        raise ConfigError(
            f"MinIO at {settings.s3_url} refused to make the identities: {error}. See MBATS_S3_ADMIN_ACCESS_KEY, or its file in "
            f"{settings.secrets_dir}. With a store that is not MinIO, set MBATS_S3_KIND=other."
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise PlatformError(f"No S3 store answers at {settings.s3_url}: {error}. See `./starter_script.sh status`.") from error


class Admin(Protocol):
    """What is asked of MinIO's administration; each answer is JSON."""

    def info(self) -> str: ...
    def user_list(self) -> str: ...
    def user_add(self, access_key: str, secret_key: str) -> str: ...
    def user_remove(self, access_key: str) -> str: ...
    def policy_add(self, policy_name: str, policy_file: None = None, policy: dict[str, Any] | None = None) -> str: ...
    def policy_set(self, policy_name: str, user: str | None = None) -> str: ...


def prepare_identities(admin: Admin, settings: Settings, say: Callable[[str], None]) -> None:
    """Make the identities of a MinIO server, each with a policy for its own buckets. Sets their secret keys anew each time.

    A user that has the policy of an identity and not its access key is what the identity was before, and is removed.
    """
    known = json.loads(admin.user_list() or "{}")
    made: list[str] = []
    former: dict[str, str] = {}
    for identity in s3_identities(settings):
        access, secret = (getattr(settings, name) for name in (identity.access_key, identity.secret_key))
        if access is None or secret is None:
            continue  # the identity of another part stands in for it
        policy, user = f"mbats-{identity.name}", access.get_secret_value()
        admin.policy_add(policy, policy=_policy(identity))
        admin.user_add(user, secret.get_secret_value())
        admin.policy_set(policy, user=user)
        if user not in known:
            made.append(identity.name)
        former |= {key: identity.name for key, found in known.items() if found.get("policyName") == policy and key != user}
    for key in former:
        admin.user_remove(key)
    say(f"S3 store: made identities {', '.join(made)}." if made else "S3 store: identities exist, keys and rights set anew.")
    if former:
        say(f"S3 store: removed the former access keys of {', '.join(former.values())}.")


def _policy(identity: Identity) -> dict[str, Any]:
    buckets = [f"arn:aws:s3:::{bucket}" for bucket in identity.buckets]
    listing = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions"]
    objects = ["GetObject", "GetObjectVersion", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": listing, "Resource": buckets},
            {"Effect": "Allow", "Action": [f"s3:{name}" for name in objects], "Resource": [f"{arn}/*" for arn in buckets]},
        ],
    }


def minio_version(settings: Settings) -> str:
    """What the MinIO server says of itself to its admin; empty when it does not, or the key here is not an admin's."""
    try:
        admin = _minio_admin(settings, urllib3.PoolManager(timeout=CHECK_TIMEOUT, retries=False))
        return str(json.loads(admin.info())["servers"][0]["version"])
    except (MinioAdminException, ConfigError, urllib3.exceptions.HTTPError):
        return ""


def _minio_admin(settings: Settings, http_client: urllib3.PoolManager | None = None) -> Admin:
    access, secret = settings.s3_keys("admin")
    address = urlsplit(settings.s3_url)
    provider = StaticProvider(access.get_secret_value(), secret.get_secret_value())
    return MinioAdmin(endpoint=address.netloc, credentials=provider, secure=address.scheme == "https", http_client=http_client)


def _client(settings: Settings) -> Minio:
    access, secret = settings.s3_keys("admin")
    address = urlsplit(settings.s3_url)
    return Minio(
        address.netloc,
        access_key=access.get_secret_value(),
        secret_key=secret.get_secret_value(),
        region=settings.s3_region,
        secure=address.scheme == "https",
    )


def _prepare(client: Minio, bucket: Bucket, region: str, say: Callable[[str], None]) -> None:
    done = []
    if not client.bucket_exists(bucket.name):
        client.make_bucket(bucket.name, location=region)
        done.append("made")
    if bucket.versioning and client.get_bucket_versioning(bucket.name).status != ENABLED:
        client.set_bucket_versioning(bucket.name, VersioningConfig(ENABLED))
        done.append("versioning switched on")
    if _set_lifecycle(client, bucket):
        done.append("lifecycle set")
    say(f"Bucket {bucket.name}: {', '.join(done)}." if done else f"Bucket {bucket.name} exists, skipped.")
    for key in bucket.seeds:
        if _is_there(client, bucket.name, key):
            say(f"File {bucket.name}/{key} exists, skipped.")
        else:
            content = SEEDS[key](datetime.now(UTC).date())
            client.put_object(bucket.name, key, io.BytesIO(content), len(content))
            say(f"File {bucket.name}/{key}: sample written; edit it to follow other symbols.")


def _set_lifecycle(client: Minio, bucket: Bucket) -> bool:
    rules = []
    if bucket.delete_old_versions_after_days:
        expiry = NoncurrentVersionExpiration(noncurrent_days=bucket.delete_old_versions_after_days)
        rules.append(Rule(ENABLED, rule_id="old-versions", rule_filter=Filter(prefix=""), noncurrent_version_expiration=expiry))
    if bucket.abort_uploads_after_days:
        abort = AbortIncompleteMultipartUpload(days_after_initiation=bucket.abort_uploads_after_days)
        rules.append(Rule(ENABLED, rule_id="uploads", rule_filter=Filter(prefix=""), abort_incomplete_multipart_upload=abort))
    found = client.get_bucket_lifecycle(bucket.name)
    if _in_words(rules) == _in_words(found.rules if found else []):
        return False
    if rules:
        client.set_bucket_lifecycle(bucket.name, LifecycleConfig(rules))
    else:
        client.delete_bucket_lifecycle(bucket.name)
    return True


def _in_words(rules: list[Rule]) -> set[tuple[str | None, int | None, int | None]]:
    """What matters of rules: stores give back the same rule in more than one spelling."""
    words = set()
    for rule in rules:
        expiry, abort = rule.noncurrent_version_expiration, rule.abort_incomplete_multipart_upload
        old = expiry.noncurrent_days if expiry else None
        words.add((rule.rule_id, old, abort.days_after_initiation if abort else None))
    return words


def _is_there(client: Minio, bucket: str, key: str) -> bool:
    try:
        client.stat_object(bucket, key)
    except S3Error as error:
        if error.code != "NoSuchKey":
            raise
        return False
    return True


__all__ = ["Bucket", "minio_version", "prepare_identities", "prepare_store", "read_buckets"]
