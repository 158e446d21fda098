"""The harness is in live.trading and live.conftest; here for those who import it from this place."""

from live.trading import FAST, NOW, Said, Trader, history, make_owner

__all__ = ["FAST", "NOW", "Said", "Trader", "history", "make_owner"]
