"""OANDA v20 over HTTP. Returns our types; raises OandaError."""

from mbats.oanda.client import OandaClient

__all__ = ["OandaClient"]
