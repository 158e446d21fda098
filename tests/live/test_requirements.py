"""Every requirement of live trading is proven by a test, and the page of them says by which."""

from __future__ import annotations

from pathlib import Path

import pytest
from live.requirements import PAGE, REQUIREMENTS, Proof, find_proofs, make_page


def test_there_are_36_requirements():
    assert list(REQUIREMENTS) == [f"R{n}" for n in range(1, 37)]


def test_every_requirement_has_a_test_that_proves_it():
    proven = {proof.requirement for proof in find_proofs()}

    assert [name for name in REQUIREMENTS if name not in proven] == []


def test_the_page_says_what_the_marks_say():
    page = make_page(find_proofs())

    assert PAGE.read_text() == page, "the page is out of date: run python tests/live/requirements.py"


def test_the_pages_links_lead_to_files():
    assert [proof.file for proof in find_proofs() if not (PAGE.parent / "../tests" / proof.file).is_file()] == []


def test_marks_are_found_on_tests_and_on_their_cases(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(
        '@pytest.mark.proves("R2", "R1")\ndef test_one(): ...\n'
        '@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.proves("R3")), 2])\nasync def test_two(x): ...\n'
        "def test_three(): ...\n"
        '@pytest.mark.proves("R4")\ndef no_test(): ...\n'
    )
    (tmp_path / "other.py").write_text('@pytest.mark.proves("R5")\ndef test_four(): ...\n')

    found = find_proofs(tmp_path)

    assert found == [
        Proof("R1", "test_it.py", "test_one"),
        Proof("R2", "test_it.py", "test_one"),
        Proof("R3", "test_it.py", "test_two"),
    ]


@pytest.mark.parametrize("mark", ['"R37"', '"r1"', "NAME", "7"])
def test_a_mark_that_names_no_requirement_is_an_error_that_says_where(tmp_path: Path, mark: str):
    (tmp_path / "test_it.py").write_text(f"\n@pytest.mark.proves({mark})\ndef test_one(): ...\n")

    with pytest.raises(ValueError, match=r"test_it.py, line 2: .* is no requirement"):
        find_proofs(tmp_path)
