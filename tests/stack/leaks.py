"""Whether a secret stands where somebody else than its service could read it."""

from __future__ import annotations

from stack.substrate import Substrate

LEAST = 20  # characters of the shortest secret; the longer, the surer that a find is no accident


def secret_values(stack: Substrate) -> dict[str, str]:
    """Every secret of the platform, by its value. The access keys of the S3 store are the names of its users, which it logs."""
    values = {value: name for name, value in stack.secrets().items() if not name.endswith("access_key")}
    assert len(values) >= 27, "each has a value of its own"
    assert [name for value, name in values.items() if len(value) < LEAST] == []
    return values


def leaks(stack: Substrate) -> set[tuple[str, str]]:
    """Each secret that stands in a log, an argument, an environment or a description of a service, with the place."""
    shown = stack.exposed()
    assert len(shown) > 2 * len(stack.status()), "a log of each service, and what describes it"
    return {(name, place) for value, name in secret_values(stack).items() for place, text in shown.items() if value in text}


__all__ = ["leaks", "secret_values"]
