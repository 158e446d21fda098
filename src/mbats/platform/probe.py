#!/usr/bin/env -S python -I -S
"""Ask a service over HTTP whether it does its work: `probe URL …`. Leaves with 0, or with 1 and the reason.

A container's health is asked for every few seconds, for ever, so this file needs the standard library alone and takes 40 ms where
`mbats` takes a second. Secrets are named by their files.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT = 4.0


def main(arguments: Sequence[str]) -> None:
    """Ask as the arguments say, and leave with the verdict."""
    options = _parse(arguments)
    try:
        problem = _problem(options)
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    sys.exit(f"{options.url}: {problem}" if problem else 0)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="probe", description="Ask a service over HTTP whether it does its work.")
    parser.add_argument("url")
    parser.add_argument("--user", help="log in as this user, with the password in --secret; without it, --secret is a token")
    parser.add_argument("--secret", type=Path, help="the file of the password or token")
    parser.add_argument("--says", metavar="TEXT", help="what the answer must contain")
    parser.add_argument("--part", action="append", default=[], help="a part of the answer whose `status` must be `healthy`")
    return parser.parse_args(arguments)


def _problem(options: argparse.Namespace) -> str | None:
    """Why it does not do its work; None when it does."""
    parts = urlsplit(options.url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=_headers(options))
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        return f"{answer.status} {answer.reason}, where 200 was expected"
    if options.says is not None and options.says.encode() not in body:
        return f"the answer does not say '{options.says}'"
    states = json.loads(body) if options.part else {}
    unwell = {part: states.get(part, {}).get("status") for part in options.part}
    return ", ".join(f"{part} is {state}" for part, state in unwell.items() if state != "healthy") or None


def _headers(options: argparse.Namespace) -> dict[str, str]:
    if options.secret is None:
        return {}
    secret = options.secret.read_text().strip()
    if options.user is None:
        return {"Authorization": f"token {secret}"}
    return {"Authorization": "Basic " + base64.b64encode(f"{options.user}:{secret}".encode()).decode()}


if __name__ == "__main__":
    main(sys.argv[1:])
