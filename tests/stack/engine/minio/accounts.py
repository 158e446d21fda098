"""The users and policies that MinIO's administration was told of, kept in a file and written as SeaweedFS's identities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# What SeaweedFS calls the right to an action. A policy that names any other is refused: it could not be kept.
RIGHTS = {
    "s3:GetBucketLocation": "Read",
    "s3:ListBucket": "List",
    "s3:ListBucketMultipartUploads": "List",
    "s3:ListBucketVersions": "List",
    "s3:GetObject": "Read",
    "s3:GetObjectVersion": "Read",
    "s3:ListMultipartUploadParts": "Read",
    "s3:PutObject": "Write",
    "s3:DeleteObject": "Write",
    "s3:AbortMultipartUpload": "Write",
}
ALL = ["Admin", "Read", "Write", "List", "Tagging"]


class Accounts:
    """What is known, kept in `folder`. `root` is the access key and the secret key of who may do everything."""

    def __init__(self, folder: Path, root: tuple[str, str]) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.root = root
        self.file = folder / "identities.json"
        self._kept = folder / "accounts.json"
        known = json.loads(self._kept.read_text()) if self._kept.is_file() else {}
        self.users: dict[str, str] = known.get("users", {})
        self.policies: dict[str, Any] = known.get("policies", {})
        self.granted: dict[str, str] = known.get("granted", {})
        self._written: list[Any] = []
        self.save()

    def add_policy(self, name: str, policy: dict[str, Any]) -> None:
        """Raises ValueError when it says what the stand-in does not know."""
        _rights(policy)
        self.policies[name] = policy

    def remove_user(self, user: str) -> None:
        """Raises KeyError when there is none."""
        del self.users[user]
        self.granted.pop(user, None)

    def grant(self, user: str, policy: str) -> None:
        """Raises KeyError when there is no such user or policy."""
        self.users[user], self.policies[policy]
        self.granted[user] = policy

    def listed(self) -> dict[str, dict[str, str]]:
        """The users as MinIO lists them."""
        policies = {user: {"policyName": policy} for user, policy in self.granted.items()}
        return {user: {**policies.get(user, {}), "status": "enabled"} for user in self.users}

    def save(self) -> str:
        """Keep it; says whether what SeaweedFS is to know has stayed the `same`, has `more`, or is `other`."""
        before, now = self._written, self._identities()
        self._written = now
        _write(self._kept, {"users": self.users, "policies": self.policies, "granted": self.granted})
        _write(self.file, {"identities": now})
        if now == before:
            return "same"
        return "more" if all(identity in now for identity in before) else "other"

    def _identities(self) -> list[dict[str, Any]]:
        found = [_identity("root", *self.root, ALL)]
        for user, policy in self.granted.items():
            found.append(_identity(user, user, self.users[user], _rights(self.policies[policy])))
        return found


def _identity(name: str, access: str, secret: str, rights: list[str]) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": rights}


def _rights(policy: dict[str, Any]) -> list[str]:
    rights = set()
    for statement in policy["Statement"]:
        if statement["Effect"] != "Allow" or not set(statement["Action"]) <= set(RIGHTS):
            raise ValueError(f"the stand-in does not know what this means: {statement}")
        buckets = {resource.removeprefix("arn:aws:s3:::").partition("/")[0] for resource in statement["Resource"]}
        rights |= {f"{RIGHTS[action]}:{bucket}" for action in statement["Action"] for bucket in buckets}
    return sorted(rights)


def _write(file: Path, content: Any) -> None:
    unfinished = file.with_suffix(".unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(content))
    unfinished.replace(file)
