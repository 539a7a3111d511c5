"""The operations that ask about time: balances at a moment, series, statements, trial balances."""

from __future__ import annotations

from typing import Final, get_args

from engine import reports, shapes
from gateway import statements
from gateway.query import CURSOR, LIMIT, Parameter
from gateway.route import Route

# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
_AS_OF: Final = Parameter(name="as_of", kind="instant", meaning="What took effect by this time, and at it.")
_KNOWN_AT: Final = Parameter(
    name="known_at", kind="instant", meaning="Of what was recorded by this time: what was known then of the past, or of the future.",
)
_FROM: Final = Parameter(name="from", kind="instant", required=True, meaning="Effective times from this one on.")
_TO: Final = Parameter(name="to", kind="instant", required=True, meaning="Effective times before this one.")
STATEMENTS: Final = (
    Route(
        method="GET", path="/v1/accounts/{id}/balance", handler=statements.get_balance, tag="Accounts",
        scope="ledger.read", answer=shapes.AccountBalance, etag=True, feed_cursor=True,
        query=(
            _AS_OF, _KNOWN_AT,
            Parameter(
                name="as_of_lock_version", kind="integer", maximum=10**17,
                meaning="As of a version of the account: what was recorded up to it.",
            ),
        ),
    ),
    Route(
        method="GET", path="/v1/accounts/{id}/balance_history", handler=statements.get_balance_history, tag="Accounts",
        scope="ledger.read", answer=reports.BalanceHistory, feed_cursor=True,
        query=(
            Parameter(
                name="interval", kind="choice", choices=get_args(reports.Interval), required=True,
                meaning="The balances at the end of each hour, day or month of UTC.",
            ),
            _FROM, _TO, _KNOWN_AT, LIMIT, CURSOR,
        ),
    ),
    Route(
        method="GET", path="/v1/accounts/{id}/statement", handler=statements.get_statement, tag="Accounts",
        scope="ledger.read", answer=reports.Statement, feed_cursor=True, query=(_FROM, _TO, _KNOWN_AT, LIMIT, CURSOR),
    ),
    Route(
        method="GET", path="/v1/ledgers/{id}/trial_balance", handler=statements.get_trial_balance, tag="Ledgers",
        scope="ledger.read", answer=reports.TrialBalance, feed_cursor=True,
        query=(
            _AS_OF, _KNOWN_AT,
            Parameter(
                name="limit", kind="integer", maximum=1000, meaning="How many accounts a page has at most; 50 unless given.",
            ),
            CURSOR,
        ),
    ),
)
# fmt: on
