"""A page and a view → HTML. Autoescape is on, an unknown name is an error, and each class of view has one template."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from idiolect.serve import views, wording
from idiolect.serve.views import Page

STATIC = files("idiolect.serve") / "static"
CSP = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    )
)
"""The header Content-Security-Policy that every page works under."""

_TEMPLATES: dict[type, str] = {
    views.HomeView: "home.html",
    views.ReadyView: "ready.html",
    views.RoundView: "round.html",
    views.ReportView: "report.html",
    views.JudgeView: "judge.html",
    views.JudgeReportView: "judge_report.html",
    views.LeaderboardView: "leaderboard.html",
    views.SignupView: "signup.html",
    views.LoginView: "login.html",
    views.MeView: "me.html",
    views.MirrorView: "mirror.html",
    views.HowView: "how.html",
    views.AboutView: "about.html",
    views.ModView: "mod.html",
    views.ErrorView: "error.html",
}
VIEWS = tuple(_TEMPLATES)
"""Every class of view that has a page."""


def render(page: Page, view: Any) -> str:
    """The HTML of a page.

    Raises:
        KeyError: for a value that is no view.
    """
    return environment().get_template(_TEMPLATES[type(view)]).render(page=page, view=view)


@cache
def environment() -> Environment:
    """Templates with everything that they may call."""
    env = Environment(
        loader=PackageLoader("idiolect.serve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(
        asset=asset,
        asked=wording.asked,
        heading=wording.heading,
        mode_name=wording.mode_name,
        game=wording.NAME,
        relation_words=wording.RELATION_WORDS,
        mode_words=wording.MODE_WORDS,
        timing_words=wording.TIMING_WORDS,
        reasons=wording.REASONS,
        timings=views.TIMINGS,
        mod_sections=views.MOD_SECTIONS,
    )
    return env


@cache
def asset(name: str) -> str:
    """The address of a static file, which changes with its content, so that browsers may keep it for good."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:10]}"
