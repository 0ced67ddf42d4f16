"""Who may do what: one declared table of routes and roles, checked for every request before its handler runs.

`ROUTES` names every route of the application; a route that is not in it does not start (`check_table`). The printed
matrix (`matrix`) is what the tests try, each route with each role.
"""

from __future__ import annotations

from collections.abc import Iterable

from console.api.users import ROLES, Role

PUBLIC: frozenset[Role] = frozenset()
"""Needs no login."""
ANYBODY = frozenset(ROLES)
_READERS: frozenset[Role] = frozenset(["viewer", "analyst", "rule_author", "publisher", "auditor", "admin"])
_PROOF: frozenset[Role] = frozenset(["analyst", "publisher", "auditor", "admin"])
_UNMASKED: frozenset[Role] = frozenset(["submitter", "analyst", "auditor", "admin"])
"""Roles that see whom a payment is about; for others it is masked (`console.api.masking`)."""
_PAYERS: frozenset[Role] = frozenset(["submitter", "admin"])
_JUDGES: frozenset[Role] = frozenset(["analyst"])
_AUTHORS: frozenset[Role] = frozenset(["rule_author", "publisher"])
_PUBLISHERS: frozenset[Role] = frozenset(["publisher"])
_TRAIL: frozenset[Role] = frozenset(["auditor", "publisher", "admin"])
_ADMINS: frozenset[Role] = frozenset(["admin"])

ROUTES: dict[str, frozenset[Role]] = {
    "GET /livez": PUBLIC,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /metrics": ANYBODY,
    "POST /v1/login": PUBLIC,
    "POST /v1/login/link": PUBLIC,
    "GET /v1/login/methods": PUBLIC,
    "GET /v1/login/oidc": PUBLIC,
    "GET /v1/login/oidc/callback": PUBLIC,
    "POST /v1/logout": ANYBODY,
    "GET /v1/me": ANYBODY,
    "POST /v1/me/password": ANYBODY,
    "GET /v1/system": ANYBODY,
    # decisions
    "POST /v1/decisions": _PAYERS,
    "POST /v1/decisions/batch": _PAYERS,
    "GET /v1/decisions": _READERS,
    "GET /v1/summary": _READERS,
    "GET /v1/decisions/{id}": _READERS | {"submitter"},
    "GET /v1/decisions/{id}/replay": _PROOF,
    "GET /v1/decisions/{id}/audit": _PROOF,
    "GET /v1/decisions/{id}/proof": _PROOF & _UNMASKED,
    "POST /v1/decisions/{id}/unmask": _AUTHORS,
    "POST /v1/decisions/{id}/whatif": _PROOF,
    # read models
    "GET /v1/live": _READERS,
    "GET /v1/accounts/{id}": _READERS,
    "GET /v1/accounts/{id}/related": _READERS,
    "GET /v1/rings": _READERS,
    "GET /v1/cases": _READERS,
    "GET /v1/cases/{id}": _READERS,
    "GET /v1/labels": _READERS,
    "GET /v1/sources": _READERS,
    "GET /v1/stats": _READERS,
    "GET /v1/drift": _READERS,
    "GET /v1/drift/{position}": _READERS,
    "GET /v1/shadow": _READERS,
    "GET /v1/experiments": _READERS,
    "GET /v1/experiments/{id}": _READERS,
    "GET /v1/reference/{kind}/{id}": _READERS,
    "GET /v1/lists": _READERS,
    "GET /v1/thresholds": _READERS,
    "GET /v1/rules": _READERS,
    "GET /v1/rules/hits": _READERS,
    "GET /v1/models": _READERS,
    "GET /v1/models/{id}": _READERS,
    "GET /v1/models/{id}/performance": _READERS,
    "GET /v1/programs": _READERS,
    "GET /v1/programs/{id}": _READERS,
    "GET /v1/programs/{id}/diff": _READERS,
    "GET /v1/programs/completions": _READERS,
    "POST /v1/programs/check": _READERS,
    "POST /v1/programs/backtest": _AUTHORS,
    "POST /v1/programs/proposals": _AUTHORS,
    "POST /v1/programs/proposals/{id}/approve": _PUBLISHERS,
    "POST /v1/programs/proposals/{id}/withdraw": _AUTHORS,
    "POST /v1/programs/proposals/{id}/deploy": _PUBLISHERS,
    "POST /v1/programs/rollback": _PUBLISHERS,
    "POST /v1/whatif": _READERS,
    "GET /v1/proposals": _READERS,
    "GET /v1/control": _TRAIL,
    "GET /v1/events": _READERS,
    # acts
    "POST /v1/feedback": _JUDGES | {"submitter"},
    "POST /v1/cases": _JUDGES,
    "POST /v1/cases/resolve": _JUDGES,
    "POST /v1/cases/{id}/assign": _JUDGES,
    "POST /v1/cases/{id}/snooze": _JUDGES,
    "POST /v1/cases/{id}/route": _JUDGES,
    "POST /v1/cases/{id}/notes": _JUDGES,
    "POST /v1/cases/{id}/resolve": _JUDGES,
    "POST /v1/cases/{id}/reopen": _JUDGES,
    "POST /v1/cases/{id}/check": _JUDGES,
    "POST /v1/accounts/{id}/block": _JUDGES,
    "POST /v1/accounts/{id}/unblock": _JUDGES,
    "POST /v1/lists": _JUDGES | _PUBLISHERS,
    "PATCH /v1/thresholds": _PUBLISHERS,
    "PATCH /v1/rules": _PUBLISHERS,
    "POST /v1/models/{id}/deploy": _PUBLISHERS,
    "POST /v1/models/proposals/{id}/approve": _PUBLISHERS,
    "POST /v1/models/proposals/{id}/withdraw": _PUBLISHERS,
    "POST /v1/models/rollback": _PUBLISHERS,
    "POST /v1/models/shadow/withdraw": _PUBLISHERS,
    "POST /v1/experiments": _PUBLISHERS,
    "POST /v1/experiments/{id}/ramp": _PUBLISHERS,
    "POST /v1/experiments/{id}/stop": _PUBLISHERS,
    "POST /v1/experiments/{id}/conclude": _PUBLISHERS,
    "POST /v1/four-eyes": _ADMINS,
    "POST /v1/proposals/{id}/approve": _JUDGES | _PUBLISHERS | _ADMINS,
    "POST /v1/proposals/{id}/withdraw": _JUDGES | _AUTHORS | _ADMINS,
    "GET /v1/users": _ADMINS,
    "POST /v1/users": _ADMINS,
    "POST /v1/users/{id}/disable": _ADMINS,
    "POST /v1/users/{id}/tokens": _ADMINS,
    "POST /v1/users/{id}/tokens/{token_id}/revoke": _ADMINS,
}
"""Method and path, as in the description, → the roles that may; PUBLIC: everybody, without a login."""


def permitted(roles: Iterable[Role], route: str) -> bool:
    """Whether somebody with these roles may call the route."""
    return not ROUTES[route].isdisjoint(roles)


def sees_personal_data(roles: Iterable[Role]) -> bool:
    """Whether answers to somebody with these roles show accounts, devices, cards, addresses and personal attributes."""
    return not _UNMASKED.isdisjoint(roles)


def check_table(routes: Iterable[str]) -> None:
    """Raise ValueError unless the table names exactly these routes."""
    found = set(routes)
    if found != set(ROUTES):
        raise ValueError(f"console.api.access.ROUTES differs from the routes: {sorted(found ^ set(ROUTES))}")


def matrix() -> str:
    """The table as Markdown, for docs/api.md."""
    rows = [f"| route | {' | '.join(role.replace('_', ' ') for role in ROLES)} |", f"|---|{'---|' * len(ROLES)}"]
    for route, allowed in ROUTES.items():
        marks = ["public" if allowed is PUBLIC else "✔" if role in allowed else "" for role in ROLES]
        rows.append(f"| `{route}` | {' | '.join(marks)} |")
    seen = ["shown" if role in _UNMASKED else "masked" for role in ROLES]
    rows.append(f"| personal data in answers | {' | '.join(seen)} |")
    return "\n".join(rows) + "\n"
