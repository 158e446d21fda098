"""The securities master: which symbols there are, and their bars with every revision."""
