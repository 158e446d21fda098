"""`python -m mbats.cli` is the same as `mbats`."""

from mbats.cli import main

main()
