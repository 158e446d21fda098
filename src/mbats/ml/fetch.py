"""Fetch a model for a process that never imports MLflow: `python -m mbats.ml.fetch REFERENCE FOLDER`.

Prints one line of JSON: {"info": …, "path": …}, or {"error": sentence, "passing": whether it may go well later} with exit
code 2. The settings are those of the environment, as for every command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mbats.errors import MbatsError, UsageError


def fetched(reference: str, folder: Path) -> dict[str, Any]:
    """Resolve and fetch, and for `rest:` see that the endpoint serves it; raises what these functions of `registry` raise."""
    from mbats.ml.registry import fetch, load_rest, parse_reference, resolve
    from mbats.settings import get_settings

    settings = get_settings()
    info = resolve(settings, reference)
    path = fetch(settings, info, folder)
    if parse_reference(reference).rest:
        load_rest(settings, path)
    return {"info": info.to_json(), "path": str(path)}


def main(arguments: list[str]) -> int:
    """The exit code: 0, or 2 with a sentence."""
    answer: dict[str, Any]
    try:
        if len(arguments) != 2:
            raise UsageError(f"python -m mbats.ml.fetch takes a reference and a folder; it was given {len(arguments)} arguments.")
        answer, code = fetched(arguments[0], Path(arguments[1])), 0
    except MbatsError as error:
        answer, code = {"error": str(error), "passing": error.passing}, error.exit_code
    except OSError as error:  # the folder, or the disk
        answer, code = {"error": f"Model '{arguments[0]}' could not be fetched: {error}.", "passing": False}, 2
    print(json.dumps(answer))  # noqa: T201  one line for the process that asked
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
