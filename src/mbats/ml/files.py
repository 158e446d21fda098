"""The files of a model in a folder: MLflow's own, the rows to check it with, and the digest over all of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from mbats.errors import ConfigError
from mbats.trading.model import ModelInfo

INFO = "info.json"  # which model it is; not part of the digest, which stands in it
CHECK = "check.json"
REFERENCE = "reference.json"
BESIDE = (CHECK, REFERENCE)  # logged with the run, and laid beside the model
OF_DOWNLOADS = ("registered_model_meta", "__pycache__")  # what MLflow and Python put there later


def digest_of(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inside = path.relative_to(folder)
        if str(inside) == INFO or any(part in OF_DOWNLOADS for part in inside.parts):
            continue
        content = path.read_bytes()
        digest.update(f"{inside.as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def download(model_uri: str, run_id: str, folder: Path) -> None:
    """Bring a model's files from MLflow into `folder`, with those that its run logged to go beside them.

    Use it inside `client_environment`. `folder` must not be there yet.
    """
    from mlflow.artifacts import download_artifacts

    folder.mkdir()
    download_artifacts(artifact_uri=model_uri, dst_path=str(folder))
    for name in BESIDE:
        download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(folder))
    for name in OF_DOWNLOADS:
        left = folder / name
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def write_info(folder: Path, info: ModelInfo) -> None:
    """Lay `info.json` beside the files of a model, so that whoever opens the folder needs nobody to ask."""
    (folder / INFO).write_text(json.dumps(info.to_json(), indent=2) + "\n", encoding="utf-8")


def read_info(folder: Path) -> ModelInfo:
    """What `write_info` wrote. Raises ConfigError when there is nothing that can be read."""
    try:
        return ModelInfo.from_json(json.loads((folder / INFO).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"No model can be read from {folder}: {type(error).__name__}: {error}. Delete the folder; it is fetched again."
        ) from error


__all__ = ["BESIDE", "CHECK", "INFO", "REFERENCE", "digest_of", "download", "read_info", "write_info"]
