"""What the repository promises about itself."""

from __future__ import annotations

import re

from pydantic import SecretStr

from mbats.settings import PROJECT_ROOT, Settings

IN_COMPOSE = re.compile(r"\$\{(MBATS_[A-Z0-9_]+):-([^}]*)\}")
LINE = re.compile(r"# (MBATS_[A-Z0-9_]+)=(.*)")


def lines_of_env_example() -> list[str]:
    return (PROJECT_ROOT / ".env.example").read_text().splitlines()


def of_compose_alone() -> dict[str, str]:
    """The variables that docker-compose.yml reads and the platform does not, with their defaults."""
    found = dict(IN_COMPOSE.findall((PROJECT_ROOT / "docker-compose.yml").read_text()))
    return {name: default for name, default in found.items() if name.removeprefix("MBATS_").lower() not in Settings.model_fields}


def test_env_example_lists_every_setting_and_no_other():
    listed = [found.group(1) for line in lines_of_env_example() if (found := LINE.fullmatch(line))]

    assert sorted(listed) == sorted([*(f"MBATS_{name.upper()}" for name in Settings.model_fields), *of_compose_alone()])


def test_env_example_shows_the_default_of_each_setting():
    shown = {found.group(1): found.group(2) for line in lines_of_env_example() if (found := LINE.fullmatch(line))}

    for name, field in Settings.model_fields.items():
        # A folder's default depends on where the project lies, and a secret has none.
        plain = isinstance(field.default, str | int | float) and not isinstance(field.default, SecretStr)
        expected = str(field.default).lower() if isinstance(field.default, bool) else str(field.default) if plain else ""
        assert shown[f"MBATS_{name.upper()}"] == expected, name
    for name, default in of_compose_alone().items():
        assert shown[name] == default


def test_env_example_says_each_setting_in_words():
    lines = lines_of_env_example()

    for number, line in enumerate(lines):
        if LINE.fullmatch(line):
            above = lines[number - 1]
            assert above.startswith("# ") and not LINE.fullmatch(above) and above.rstrip().endswith("."), line


def test_env_example_sets_nothing_by_itself():
    assert [line for line in lines_of_env_example() if line and not line.startswith("#")] == []


def test_the_folders_named_like_packages_hold_no_init_file():
    folders = ("airflow", "mlflow", "superset", "db", "minio", "strategies", "notebooks")

    found = [path for folder in folders for path in (PROJECT_ROOT / folder).rglob("__init__.py")]

    assert found == [], "an __init__.py there would hide the package of the same name"


def test_the_readme_says_what_the_limits_of_the_containers_add_up_to():
    text = (PROJECT_ROOT / "docker-compose.yml").read_text().partition("# --- When asked for")[0]
    limits = re.findall(r"mem_limit: \$\{MBATS_\w+_MEMORY:-(\d+)([mg])\}", text)
    together = sum(int(number) * (1024 if unit == "g" else 1) for number, unit in limits) / 1024

    readme = " ".join((PROJECT_ROOT / "README.md").read_text().split())

    assert len(limits) == 12, "one for each service"
    assert together < 7.9, "it fits a machine of 8 GB"
    assert f"The limits of the containers add up to {together:.1f} GB" in readme
