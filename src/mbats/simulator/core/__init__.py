"""The exchange without a clock, a network or a disk: what it is told in, OANDA's transactions out.

    values ─▶ account (a fold over transactions) ─▶ valuation, requests, scan ─▶ fills ─▶ matching ─▶ engine

Everything that an account is follows from its transactions, in the form in which OANDA sends them. So a restart, the list of
changes, the stream and an audit are the same code. Amounts and prices are Decimal; times are `datetime64[us]`, UTC.
"""
