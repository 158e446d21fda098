"""OANDA's REST API over HTTP: reads requests, asks the engine, writes answers. It decides nothing about accounts or prices.

    respond ─▶ access ─▶ view ─▶ account, orders, trades, positions, transactions, market ─▶ app

Handlers keep nothing between requests: all there is to know is the runtime's, and what a middleware has put into the request.
"""
