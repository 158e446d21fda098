"""Faults on purpose: what can go wrong between a client and a broker, made to happen when a test says so.

actions    what can be done to a request, to a message of a stream, to the market, an account or the process
rules      when it is done: which requests or messages, how often, in which window
book       the rules in force, and what each has struck
requests   done to requests          messages   done to the messages of streams
deeds      done to the exchange      sockets    resets, ends and other rudeness of a connection
"""
