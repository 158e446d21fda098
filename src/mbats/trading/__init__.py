"""Backtests: Backtrader with our feed, our broker and our books. Only this package and `strategies/` know Backtrader."""
