"""What the administrator of the exchange sees and does: clock, faults, market, accounts, journal, metrics, and a page.

Never a part of what clients see: it listens on a port of its own, on this machine alone unless told otherwise.
"""
