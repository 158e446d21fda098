"""MBATS: takes an FX idea to a monitored live account, and proves that the backtest was honest."""

__version__ = "1.0.0.dev0"
