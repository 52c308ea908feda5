"""What the game will not do, and why. Each knows the HTTP status and the code that a browser or a program is answered with.

    Refusal ─┬─ BadInput 422, BadField, BadAnswer     what was given is wrong
             ├─ NeedsLogin 401, WrongLogin 403, NotAllowed 403, BadToken 403
             ├─ NotYours 404                          not there, or somebody else's: the two look alike
             ├─ RoundClosed 409, OneOpenRound, HandleTaken
             └─ TooMany 429

Messages are sentences that players read. They hold nobody's text.
"""

from __future__ import annotations

import math
from typing import ClassVar

from idiolect.errors import IdiolectError


class Refusal(IdiolectError):
    """Something that a player may not do, or not now; the message is for them."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "refused"


class BadInput(Refusal):
    """What was sent cannot be read, or lacks something."""

    exit_code = 2
    status = 422
    code = "bad_input"


class BadField(BadInput):
    """One field of a form is wrong.

    Args:
        field: its name; "" where it is the form as a whole.
        text: what is wrong with it, in a sentence.
    """

    code = "bad_field"

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class HandleTaken(BadField):
    """Somebody else has this handle, or one that folds to the same."""

    status = 409
    code = "handle_taken"

    def __init__(self) -> None:
        super().__init__("handle", "this name is taken; choose another")


class BadAnswer(BadInput):
    """An answer or a judgement that does not fit its round."""

    code = "bad_answer"


class NeedsLogin(Refusal):
    """Only for players, or only for those with an account."""

    status = 401
    code = "needs_login"


class WrongLogin(Refusal):
    """Handle and password do not belong together; which of the two is wrong is not said."""

    status = 403
    code = "wrong_login"

    def __init__(self) -> None:
        super().__init__("name and password do not fit together")


class NotAllowed(Refusal):
    """Not for this player."""

    exit_code = 4
    status = 403
    code = "not_allowed"


class BadToken(Refusal):
    """A request that did not come from a page of ours, as far as can be told."""

    status = 403
    code = "bad_token"

    def __init__(self) -> None:
        super().__init__("this page has been open too long, or is not ours; load it again and try once more")


class NotYours(Refusal):
    """No such round, pair or page; or another player's, which looks the same."""

    exit_code = 3
    status = 404
    code = "not_found"


class RoundClosed(Refusal):
    """The round is over; nothing can be added to it."""

    status = 409
    code = "round_closed"


class OneOpenRound(Refusal):
    """A player has one open round at a time.

    Attributes:
        round: its name.
    """

    status = 409
    code = "one_open_round"

    def __init__(self, message: str, *, round: str) -> None:
        super().__init__(message)
        self.round = round


class TooMany(Refusal):
    """A rate limit.

    Args:
        retry_after_s: when it may be tried again, in seconds from now.
    """

    status = 429
    code = "too_many"

    def __init__(self, message: str | None = None, *, retry_after_s: float) -> None:
        self.retry_after_s = max(1, math.ceil(retry_after_s))
        super().__init__(message or f"that was a lot in a short time; try again in {_spoken(self.retry_after_s)}")


def _spoken(seconds: int) -> str:
    """90 → "2 minutes": rounded up, in the largest unit that is not zero."""
    for n, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= n:
            many = -(-seconds // n)
            return f"{many} {unit}" if many == 1 else f"{many} {unit}s"
    return "a second"
