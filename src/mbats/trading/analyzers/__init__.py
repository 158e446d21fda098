"""What is measured of a run, after it: from the books and the equity curve, by columns."""
