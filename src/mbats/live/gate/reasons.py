"""Why the gate refuses: one code for each rule, with the sentence that a person reads. The codes are recorded, so they stay."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The code of a refusal, or of a latch. `sentence` says the rule in words, without figures."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Reason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    # The order itself
    MALFORMED = "malformed", "The order is one that the broker could not accept."
    DUPLICATE = "duplicate", "The same order was already decided on for this bar."
    NOTHING_TO_REDUCE = "nothing_to_reduce", "The order is only to reduce, and there is no position that it could close."

    # What people and latches say
    HALTED = "halted", "Trading is halted: only cancels pass, and the orders of a flatten."
    REDUCING = "reducing", "Trading may only reduce: this order would add exposure or turn the position round."
    DAILY_LOSS = "daily_loss", "The loss of this trading day has reached its limit."
    DRAWDOWN = "drawdown", "The NAV has fallen from its peak by as much as is allowed."
    LOSS_STREAK = "loss_streak", "As many trades in a row have lost as is allowed."
    REPEATED_EXECUTIONS = (
        "repeated_executions",
        "The strategy keeps ordering the same symbol: a person must look before it goes on.",
    )
    ORDER_RATE = "order_rate", "Orders come faster than this deployment may send them."

    # What is not known
    POSITION_UNKNOWN = "position_unknown", "The account's positions are not known for certain, so no exposure may be added."
    NO_PRICE = "no_price", "There is no price of this symbol yet."
    NO_REFERENCE = "no_reference", "No earlier price or usual spread is known to judge the price by."
    NO_CONVERSION = "no_conversion", "A value cannot be put into the account's currency, or a margin rate is not known."

    # The market
    MARKET_CLOSED = "market_closed", "FX is closed: at weekends, on holidays and from 16:58 to 17:03 New York."
    NOT_TRADEABLE = "not_tradeable", "The broker says that the symbol cannot be traded now."
    PRICE_STALE = "price_stale", "The last price is too old to trade on."
    PRICE_FROM_FUTURE = "price_from_future", "The last price is later than our clock: one of the two clocks is wrong."
    PRICE_BROKEN = "price_broken", "The last price contradicts itself: not positive, or the ask below the bid."
    PRICE_JUMP = "price_jump", "The last price is too far from the prices before it."
    SPREAD = "spread", "The spread is too wide."
    ORDER_PRICE = "order_price", "The order's own price is too far from the market."

    # How much
    ORDER_UNITS = "order_units", "The order is larger than one order may be, in units."
    ORDER_NOTIONAL = "order_notional", "The order is worth more than one order may be, as a multiple of NAV."
    POSITION_UNITS = "position_units", "The position in this symbol could grow larger than allowed, in units."
    POSITION_NOTIONAL = "position_notional", "The position in this symbol could be worth more than allowed, as a multiple of NAV."
    OPEN_TRADES = "open_trades", "The deployment could have more trades open than it may."
    GROSS_EXPOSURE = (
        "gross_exposure",
        "All positions of the account together could be worth more than allowed, as a multiple of NAV.",
    )
    CURRENCY_EXPOSURE = "currency_exposure", "The account could hold more of one currency, long or short, than allowed."
    MARGIN = "margin", "The margin after the fill could be more than the part of NAV that may be used."
