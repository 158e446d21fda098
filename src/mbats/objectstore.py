"""Objects in the S3 store, whichever it is. Speaks boto3; raises PlatformError or ConfigError in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mbats.errors import ConfigError, PlatformError
from mbats.settings import S3Identity, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MISSING = ("NoSuchKey", "NoSuchBucket", "404")
PART = 32 * 2**20  # bytes; a store takes 10,000 parts of one object, and two of them are in memory at once


class Stream(Protocol):
    """What bytes are read from: all of `size` unless it ends before."""

    def read(self, size: int = -1, /) -> bytes: ...


class ObjectStore:
    """The store of these settings, with the keys of one identity. One object may serve many threads.

    >>> ObjectStore(get_settings()).get("marketdata", "interested_tickers.xlsx")[:2]
    b'PK'
    """

    def __init__(self, settings: Settings, identity: S3Identity = "mbats") -> None:
        self.url = settings.s3_url
        access, secret = settings.s3_keys(identity)
        self._variables = [f"MBATS_{name.upper()}" for name in settings.s3_key_names(identity)]
        self._client: S3Client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=settings.s3_region,
            aws_access_key_id=access.get_secret_value(),
            aws_secret_access_key=secret.get_secret_value(),
            config=Config(
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 3},
                # A proxy of the environment cannot reach a store on this machine.
                proxies={} if urlsplit(self.url).hostname in LOOPBACK else None,
            ),
        )

    def get(self, bucket: str, key: str) -> bytes:
        """The content of one object. Raises ConfigError when it is not there."""
        with self._errors_in_words(bucket, key):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def put(self, bucket: str, key: str, content: bytes, content_type: str | None = None) -> None:
        """Write one object, whole or not at all, over what was there."""
        options: dict[str, Any] = {} if content_type is None else {"ContentType": content_type}
        with self._errors_in_words(bucket, key):
            self._client.put_object(Bucket=bucket, Key=key, Body=content, **options)

    def upload(self, bucket: str, key: str, stream: Stream) -> None:
        """Write one object of any size from a stream, whole or not at all. What the stream raises is raised."""
        transfer = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=2)
        with self._errors_in_words(bucket, key):
            self._client.upload_fileobj(cast(IO[bytes], stream), bucket, key, Config=transfer)

    @contextmanager
    def open(self, bucket: str, key: str) -> Iterator[Stream]:
        """The content of one object as a stream. Raises ConfigError when it is not there."""
        with self._errors_in_words(bucket, key):
            found = self._client.get_object(Bucket=bucket, Key=key)
            with closing(found["Body"]) as stream:
                yield stream

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete these objects one after the other, in this order. One that is not there is no error."""
        for key in keys:
            with self._errors_in_words(bucket, key):
                self._client.delete_object(Bucket=bucket, Key=key)

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the object is there. Raises ConfigError when the bucket is not."""
        with self._errors_in_words(bucket, key):
            # Not HEAD, whose 404 is the same for a missing bucket. Of the keys that begin with it, the key itself comes first.
            found = self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        return any(item["Key"] == key for item in found)

    def list(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys that begin with `prefix`, in order."""
        with self._errors_in_words(bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return sorted(found["Key"] for page in pages for found in page.get("Contents", []))

    @contextmanager
    def _errors_in_words(self, bucket: str, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in MISSING:
                what = f"bucket '{bucket}'" if code == "NoSuchBucket" else f"object '{key}' in the bucket '{bucket}'"
                raise ConfigError(
                    f"No {what} in the S3 store at {self.url}. Nothing was read or written. Put it there, or run "
                    "./starter_script.sh, which makes the buckets and the sample files."
                ) from error
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
                raise PlatformError(
                    f"The S3 store at {self.url} failed: {error}. Whether '{key}' in the bucket '{bucket}' was written is not "
                    "known. It may just have been started: do it again, and see `./starter_script.sh status`."
                ) from error
            raise ConfigError(
                f"The S3 store at {self.url} refused the keys or the request for '{key}' in the bucket '{bucket}': {error}. "
                f"Nothing was read or written. See {' and '.join(self._variables)}, or their files."
            ) from error
        except BotoCoreError as error:
            raise PlatformError(
                f"No S3 store at {self.url}: {error}. Whether '{key}' in the bucket '{bucket}' was written is not known. "
                "See `./starter_script.sh status`; `./starter_script.sh` starts the platform."
            ) from error


__all__ = ["ObjectStore", "Stream"]
