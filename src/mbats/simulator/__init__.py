"""An OANDA v20 exchange of one's own: a pure core, price sources, and an HTTP shell around them.

    ecb, params ─▶ timeline, anchors ─▶ conditions, paths ─▶ sample ─┐
                                     a user's own files ─▶ userbars ─┴▶ candles, quotes ─▶ exchange ─▶ api ─▶ server

Only `api` and `server` know HTTP; the rest is numpy columns and plain values, and takes the time as an argument.
What the sample market serves is "ECB rates with simulated intraday", never a broker's data.
"""
