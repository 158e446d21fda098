"""What a fault does, as it is written in the body of POST /faults: `{"do": "reset", "when": "after"}`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

When = Literal["before", "after"]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Part(BaseModel):
    """A part of a fault; a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Timed(Part):
    """An action before the request is applied or after it; before the message is sent, which it then is not, or after it."""

    when: When = "before"


# --- Requests and messages -------------------------------------------------------------------------------------------


class Delay(Timed):
    """Wait. Messages behind a delayed one wait too."""

    do: Literal["delay"]
    seconds: Seconds


class Reset(Timed):
    """End the connection by RST."""

    do: Literal["reset"]


class Close(Timed):
    """End the connection by FIN, without an answer or without the last chunk."""

    do: Literal["close"]


class Duplicate(Part):
    """Apply a request twice, and answer with what came of the `answer` one; send a message twice."""

    do: Literal["duplicate"]
    answer: Literal["first", "second"] = "first"


# --- Requests --------------------------------------------------------------------------------------------------------


class Hang(Timed):
    """Never answer; the connection stays."""

    do: Literal["hang"]


class Truncate(Part):
    """Announce the whole body, send `bytes` of it (default: half), and end the connection."""

    do: Literal["truncate"]
    bytes: Annotated[int | None, Field(ge=0)] = None


class Garble(Part):
    """Answer with a body that is no JSON."""

    do: Literal["garble"]


class Answer(Timed):
    """Answer with this status; `html` as a proxy does, `body` with these words."""

    do: Literal["answer"]
    status: Annotated[int, Field(ge=200, le=599)]
    html: bool = False
    body: Any = None


class RateLimit(Part):
    """Answer 429 to what exceeds this rate."""

    do: Literal["rate_limit"]
    per_second: Annotated[float, Field(gt=0)]


class Drip(Part):
    """Send the body slowly: so many bytes at a time."""

    do: Literal["drip"]
    bytes: Annotated[int, Field(ge=1)] = 16
    seconds: Seconds = 0.1


class Stale(Part):
    """Answer a GET as if the last transaction had not been yet."""

    do: Literal["stale"]


class WrongDate(Part):
    """Be wrong by so many seconds in the Date header."""

    do: Literal["date"]
    seconds: Annotated[float, Field(ge=-1e9, le=1e9)]


# --- Messages of a stream ----------------------------------------------------------------------------------------------


class End(Timed):
    """End the stream as HTTP wants it: the last chunk, then FIN."""

    do: Literal["end"]


class Cut(Part):
    """Send half a line, then end the stream."""

    do: Literal["cut"]
    then: Literal["end", "close", "reset"] = "end"


class Silence(Part):
    """Send nothing any more, or nothing for so many seconds; what would have been sent is lost."""

    do: Literal["silence"]
    seconds: Seconds | None = None


class HeartbeatsOnly(Part):
    """Send heartbeats, but nothing else any more, or nothing else for so many seconds."""

    do: Literal["heartbeats_only"]
    seconds: Seconds | None = None


class Drop(Part):
    """Lose the message."""

    do: Literal["drop"]


class Reorder(Part):
    """Send the message after the next one."""

    do: Literal["reorder"]


class Split(Part):
    """Send the line in chunks of so many bytes."""

    do: Literal["split"]
    bytes: Annotated[int, Field(ge=1)] = 7


class Merge(Part):
    """Send the message in one chunk with the next."""

    do: Literal["merge"]


class AddField(Part):
    """Give the message a key that nobody knows."""

    do: Literal["add_field"]
    name: Annotated[str, Field(min_length=1)] = "somethingNew"
    value: Any = "?"


class Send(Timed):
    """Send a line of one's own besides the message, of a type that nobody knows unless the body says another."""

    do: Literal["send"]
    body: dict[str, Any] = {"type": "SOMETHING_NEW"}


# --- Deeds: the market, the accounts, the process ------------------------------------------------------------------------


class MarketChange(Timed):
    """Change the market, as POST /market does."""

    do: Literal["market"]
    change: dict[str, Any]


class ClockJump(Timed):
    """Let the clock jump ahead, or back."""

    do: Literal["clock_jump"]
    seconds: Annotated[float, Field(ge=-1e9, le=1e9)]


class Closeout(Timed):
    """Close an account out, as if its margin were gone."""

    do: Literal["margin_closeout"]
    account: str


class StripOnFill(Timed):
    """Drop the orders on fill from now on, or no longer."""

    do: Literal["strip_on_fill"]
    on: bool = True


class ExternalOrder(Timed):
    """Trade on the account behind the client's back."""

    do: Literal["external_order"]
    account: str
    order: dict[str, Any]


class ExternalClose(Timed):
    """Close a trade of the account behind the client's back."""

    do: Literal["external_close"]
    account: str
    trade: str
    units: str = "ALL"


class Transfer(Timed):
    """Pay into the account or, with a negative amount, out of it."""

    do: Literal["transfer"]
    account: str
    amount: Decimal
    comment: str = ""


class Disconnect(Timed):
    """Reset every connection of the clients."""

    do: Literal["disconnect"]


class Outage(Timed):
    """Reset every connection of the clients, and refuse new ones for so many seconds of this machine's time."""

    do: Literal["outage"]
    seconds: Annotated[float, Field(gt=0, le=86_400)]


Point = Literal["before_apply", "before_write", "after_write", "after_publish", "during_answer"]


class Kill(Timed):
    """Kill the process as by `kill -9`: at once, or when it comes to a point.

    before_apply: a request is about to be applied. before_write: it was, and nothing is written. after_write: its transactions
    are in the log, and no stream has them. after_publish: streams have them, and the answer is not on its way. during_answer:
    half of the answer is.
    """

    do: Literal["kill"]
    point: Point | None = None


ON_REQUESTS = (Delay, Reset, Close, Duplicate, Hang, Truncate, Garble, Answer, RateLimit, Drip, Stale, WrongDate)
ON_MESSAGES = (Delay, Reset, Close, Duplicate, End, Cut, Silence, HeartbeatsOnly, Drop, Reorder, Split, Merge, AddField, Send)
DEEDS = (
    MarketChange,
    ClockJump,
    Closeout,
    StripOnFill,
    ExternalOrder,
    ExternalClose,
    Transfer,
    Disconnect,
    Outage,
    Kill,
)

Deed = MarketChange | ClockJump | Closeout | StripOnFill | ExternalOrder | ExternalClose | Transfer | Disconnect | Outage | Kill
Action = (
    Delay
    | Reset
    | Close
    | Duplicate
    | Hang
    | Truncate
    | Garble
    | Answer
    | RateLimit
    | Drip
    | Stale
    | WrongDate
    | End
    | Cut
    | Silence
    | HeartbeatsOnly
    | Drop
    | Reorder
    | Split
    | Merge
    | AddField
    | Send
    | Deed
)
ACTION: TypeAdapter[Action] = TypeAdapter(Annotated[Action, Field(discriminator="do")])
