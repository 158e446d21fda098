"""Live and paper trading. What a strategy wants passes `mbats.live.gate` before it reaches a broker."""
