"""What went wrong → an answer: a page with one sentence, or `{"error": {"code", "message"}}`.

    Refusal            its own status, code and sentence
    InputError         422        NotFoundError 404        StoreBusy 503, Retry-After        StoreError 503
    anything else      500        noted in the log by its class and where it was raised, never by its words

Only refusals speak for themselves: messages of other errors name places on this machine, and may quote what somebody sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from idiolect.errors import IdiolectError, InputError, NotFoundError, StoreBusy, StoreError
from idiolect.game.refusals import BadField, Refusal, TooMany
from idiolect.serve import rendering, wording
from idiolect.serve.views import Page

if TYPE_CHECKING:
    from idiolect.serve.pages import Visit

BUSY_RETRY_S = 2

_CODES = {
    400: "bad_request", 401: "needs_login", 403: "not_allowed", 404: "not_found", 405: "method_not_allowed", 409: "conflict",
    413: "too_large", 422: "bad_input", 429: "too_many", 500: "failed", 503: "unavailable",
}  # fmt: skip


def wants_json(request: Request) -> bool:
    """Whether a program asks: it accepts JSON and no page, or it sent JSON."""
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted and "text/html" not in accepted:
        return True
    return is_json(request)


def is_json(request: Request) -> bool:
    """Whether the body is JSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def install(app: FastAPI) -> None:
    """Have every error of the app's answered from here."""
    app.add_exception_handler(IdiolectError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


def refusal(
    request: Request,
    status: int,
    sentence: str | None = None,
    *,
    code: str | None = None,
    field: str | None = None,
    retry_after_s: int | None = None,
) -> Response:
    """The answer to something that did not work.

    Args:
        sentence: for people; by default what the status says.
        code: for programs; by default the status's.
        field: of a form, that is wrong.
    """
    view = wording.error_view(status, sentence)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if wants_json(request):
        error: dict[str, Any] = {"code": code or _CODES.get(status, "refused"), "message": view.sentence}
        if field:
            error["field"] = field
        return JSONResponse({"error": error}, status, headers)
    visit: Visit | None = getattr(request.state, "visit", None)
    page = visit.about_page(view.heading) if visit is not None else Page(view.heading, request.url.path, _csrf(request))
    return HTMLResponse(rendering.render(page, view), status, headers)


def spoken(error: Refusal) -> str:
    """A refusal's message as a sentence of a page."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _csrf(request: Request) -> str:
    seat = getattr(request.state, "seat", None)
    return "" if seat is None else request.app.state.frame.tokens.csrf(seat.value)


def _of_ours(request: Request, error: Exception) -> Response:
    if isinstance(error, Refusal):
        wait_s = error.retry_after_s if isinstance(error, TooMany) else None
        field = error.field if isinstance(error, BadField) else None
        return refusal(request, error.status, spoken(error), code=error.code, field=field, retry_after_s=wait_s)
    if isinstance(error, StoreBusy):
        return refusal(request, 503, code="busy", retry_after_s=BUSY_RETRY_S)
    for kind, status in ((StoreError, 503), (NotFoundError, 404), (InputError, 422)):
        if isinstance(error, kind):
            return refusal(request, status)
    raise error


def _of_validation(request: Request, error: Exception) -> Response:
    return refusal(request, 422)  # its details quote the input


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = refusal(request, error.status_code)
    answer.headers.update(error.headers or {})
    return answer
