"""An OANDA v20 exchange of one's own: a pure core, price sources, and shells around them.

    sample, userbars, databasebars, scripted ─▶ shift ─▶ overlay ─▶ candles, market ─▶ core
                                                                                        │
                       faults ─▶ rest, streams, admin ─▶ runtime ─▶ clock, log ◀────────┘

Only `rest`, `streams` and `admin` know HTTP, only `log` the disk, only `clock` the time. The rest is columns and plain values,
and takes the time as an argument. What the sample market serves is "ECB rates with simulated intraday", never a broker's data.
"""
