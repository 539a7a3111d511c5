"""What the books answer when they do not do as asked. Data as attributes; the surface gives each its status and code.

EngineError
├── Refused                     the command changes nothing, and would be refused again as things stand
│   ├── NotFound                no such resource on this site
│   ├── AccountNotFound         lines name accounts that do not exist
│   ├── AccountClosed           a line or a change touches a closed account
│   ├── AccountNotEmpty         an account with a balance or something pending cannot be closed
│   ├── AlreadyTaken            a name that must be unique is in use
│   ├── AccountCodeTaken        another account of the ledger has this code
│   ├── CurrencyListed          a currency of ISO 4217 cannot be defined otherwise
│   ├── CurrencyExponentMismatch  a currency of the site's own has another exponent
│   ├── SeveralLedgers          the lines of one entry are in more than one ledger
│   ├── UnbalancedEntry         debits and credits differ
│   ├── FxRateRequired          an entry over several currencies names no rate
│   ├── FxRateExpired           the rate is no longer valid
│   ├── FxRateMismatch          the rate is between other currencies
│   ├── FxAmountMismatch        the lines take another amount than the rate gives
│   ├── AmountOutOfRange        a total would leave the range of a 64-bit integer
│   ├── InsufficientFunds       the available balance of an account that must not be negative would be
│   ├── LimitBroken             a balance would pass a standing floor or ceiling
│   ├── CategoryCycle           a category would stand in itself
│   ├── CategoryMismatch        an account or category is in another currency or ledger than the category
│   ├── CategoryLimitReached    something would stand in more categories than it may
│   ├── MonitorArchived         a monitor that watches no more cannot be changed
│   ├── MonitorLimitReached     an account or category has as many monitors as it may have
│   ├── LockVersionConflict     a line's account is at another version than the line demands
│   ├── VersionUnknown          an account is asked for at a version that it has not had yet
│   ├── PreconditionFailed      the resource is at another version than If-Match demands
│   ├── DuplicateEntry          an accepted, pending or posted entry has this external id
│   ├── EntryNotPending         only a pending entry can be posted, archived or given other lines
│   ├── EntryNotPosted          only a posted entry can be reversed
│   ├── EntryAlreadyReversed    an entry is reversed once
│   ├── LineNotFound            the entry has no line of this id
│   ├── PartExceedsLine         more of a line is wanted than it has
│   ├── NothingToPost           of no line anything is wanted
│   ├── PeriodClosed            the ledger takes no entries of this effective time any more
│   ├── PeriodNotOver           a ledger cannot be closed ahead of time
│   ├── EntryIsHold             a hold's entry is resolved by capturing or releasing the hold
│   ├── HoldNotOpen             a hold ends once
│   ├── CaptureExceeds          more was to be captured than is still held
│   ├── CaptureNeedsLines       one amount for a hold of more than two lines
│   ├── HoldExpiryPast          a hold would expire before it is made
│   ├── LocalNameUnknown        a batch refers to an entry that it has not made
│   ├── ConditionFailed         a balance would not be what a line demands of it
│   ├── TemplateInvalid         a template or path cannot be read, and at which character
│   ├── HandlerInvalid          an event handler cannot be as it is defined; everything that is wrong is listed
│   ├── NoHandlerMatches        no active event handler matches a business event
│   ├── SeveralHandlersMatch    more than one does
│   ├── VariableUnresolved      not exactly one account is what a handler's variable looks for
│   ├── ValueUnusable           what a template needs of a business event is missing or of no use
│   ├── DuplicateBusinessEvent  a business event has this external id
│   ├── CurrencyExponentUnknown a currency outside ISO 4217 comes without its exponent
│   ├── IdempotencyKeyReused    the key was used for another request
│   ├── CursorInvalid           not a cursor of this feed or list
│   └── CursorExpired           a cursor older than what the feed still serves
├── IdempotencyInProgress       the first request with this key is still running
├── Overloaded                  more commands wait than may
├── Unavailable                 the database did not answer in time
├── SiteUnknown                 the site has no row in its database, or moved elsewhere
└── BooksCorrupt                a check that can never fail did: the writer stops
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Fault(Struct, frozen=True, kw_only=True):
    """One thing that is wrong and where: a code, a JSON pointer (RFC 6901) into the request, a sentence."""

    code: str
    pointer: str
    detail: str


class EngineError(Exception):
    """Anything the engine raises on purpose."""


class Refused(EngineError):
    """The command was refused and has changed nothing."""

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        """Take a sentence for a person and the JSON pointer of the offending part."""
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer

    def within(self, prefix: str) -> None:
        """Say that the refused part stands inside a larger request, below this pointer."""
        self.pointer = prefix + self.pointer


class NotFound(Refused):
    """No such resource on this site."""

    def __init__(self, resource: str, resource_id: str, *, pointer: str = "") -> None:
        """Name the kind of resource and the id that was asked for."""
        super().__init__(f"There is no {resource} {resource_id}.", pointer=pointer)
        self.resource = resource
        self.resource_id = resource_id


class SeveralFaults(Refused):
    """Several things are wrong, each at its place."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Take all of them; the first stands for them."""
        more = "" if len(faults) == 1 else f" And {len(faults) - 1} more, see errors."
        super().__init__(faults[0].detail + more, pointer=faults[0].pointer)
        self._faults = faults
        self._prefix = ""

    def within(self, prefix: str) -> None:
        """Put all of them below the pointer."""
        super().within(prefix)
        self._prefix = prefix + self._prefix

    def faults(self) -> list[Fault]:
        """Return everything that is wrong."""
        return [Fault(code=each.code, pointer=self._prefix + each.pointer, detail=each.detail) for each in self._faults]


class AccountNotFound(SeveralFaults):
    """Lines name accounts that do not exist; every such line is listed."""

    def __init__(self, missing: Sequence[tuple[int, str]]) -> None:
        """Take the position and the reference of each line whose account is missing."""
        found = [
            (f"/lines/{position}/account_id", f"There is no account {reference}.") for position, reference in missing
        ]
        super().__init__([Fault(code="account.not_found", pointer=pointer, detail=detail) for pointer, detail in found])


class AccountClosed(Refused):
    """A closed account takes no lines and no changes."""

    def __init__(self, account_id: str, *, pointer: str = "") -> None:
        """Name the account."""
        super().__init__(f"Account {account_id} is closed.", pointer=pointer)
        self.account_id = account_id


class AccountNotEmpty(Refused):
    """An account is closed only when its balance is zero and nothing is pending."""

    def __init__(self, account_id: str, posted: int, pending: int) -> None:
        """Name the account, its posted balance and what is pending on it, in minor units."""
        super().__init__(
            f"Account {account_id} cannot be closed: its posted balance is {posted} and {pending} is pending.",
        )
        self.account_id = account_id


class AlreadyTaken(Refused):
    """A name that must be unique is in use by another resource."""

    def __init__(self, resource: str, name: str, holder_id: str, field: str = "external_id") -> None:
        """Name the kind of resource, the name, who has it, and what the name is called."""
        super().__init__(f"The {resource} {holder_id} has {field} {name!r}.", pointer=f"/{field}")
        self.holder_id = holder_id


class SeveralLedgers(Refused):
    """All lines of one entry belong to one ledger."""

    def __init__(self, position: int, ledger_id: str, other_id: str) -> None:
        """Name the first line that is in another ledger, and both ledgers."""
        super().__init__(
            f"Line {position} is in ledger {other_id}, the first line in ledger {ledger_id}.",
            pointer=f"/lines/{position}/account_id",
        )


class UnbalancedEntry(Refused):
    """Debits and credits of an entry differ."""

    def __init__(self, currency: str, debits: int, credits_: int) -> None:
        """Name the currency and both sums, in minor units."""
        super().__init__(f"Debits are {debits} {currency} and credits {credits_} {currency}.", pointer="/lines")
        self.currency = currency
        self.debits = debits
        self.credits = credits_


class FxRateRequired(Refused):
    """An entry over several currencies has to name an exchange rate."""

    def __init__(self, currencies: tuple[str, ...]) -> None:
        """Name the currencies, sorted."""
        super().__init__(f"The lines are in {', '.join(currencies)}, and no rate is named.", pointer="/lines")
        self.currencies = currencies


class AmountOutOfRange(Refused):
    """A total of the account, or of a category it is in, would exceed 9,223,372,036,854,775,807 minor units."""

    def __init__(self, account_id: str, position: int | None, *, kind: str = "account") -> None:
        """Name the account or category, and the line that would do it where it is one."""
        super().__init__(
            f"A total of {kind} {account_id} would exceed 9223372036854775807.",
            pointer="" if position is None else f"/lines/{position}/amount",
        )
        self.account_id = account_id


class InsufficientFunds(Refused):
    """The available balance of an account with `allow_negative: false` would fall below zero."""

    def __init__(self, account_id: str, position: int, available: int, resulting: int) -> None:
        """Name the account, a line that draws on it, and the balance before and after, in minor units."""
        super().__init__(
            f"Account {account_id} has {available} available; this entry would leave {resulting}.",
            pointer=f"/lines/{position}/amount",
        )
        self.account_id = account_id
        self.available = available
        self.resulting = resulting


class CategoryCycle(Refused):
    """A category would stand in itself, directly or through others."""

    def __init__(self, category_id: str, child_id: str) -> None:
        """Name the category and what was to be put into it."""
        super().__init__(f"Category {category_id} is category {child_id} or stands in it.")
        self.category_id = category_id


class CategoryMismatch(Refused):
    """What is put into a category is in another currency, or in another ledger, than the category."""

    def __init__(self, category_id: str, has: str, what: str) -> None:
        """Name the category, what it has, and what does not fit: the currency or the ledger."""
        super().__init__(f"Category {category_id} takes only what is in its {what}, {has}.")
        self.category_id = category_id


class CategoryLimitReached(Refused):
    """An account or category would stand in more categories, at any distance, than it may."""

    def __init__(self, kind: str, resource_id: str, limit: int) -> None:
        """Name it and the limit."""
        super().__init__(
            f"The {kind} {resource_id} would stand in more than {limit} categories, directly or through others."
        )
        self.limit = limit


class MonitorArchived(Refused):
    """A monitor that was archived stays as it is."""

    def __init__(self, monitor_id: str) -> None:
        """Name the monitor."""
        super().__init__(f"Monitor {monitor_id} is archived.")
        self.monitor_id = monitor_id


class MonitorLimitReached(Refused):
    """An account or category has as many monitors as it may have."""

    def __init__(self, subject_id: str, limit: int) -> None:
        """Name the account or category and the limit."""
        super().__init__(f"{subject_id} has {limit} monitors, as many as it may have.")
        self.limit = limit


class LockVersionConflict(Refused):
    """A line demands a version of its account that is not the present one."""

    def __init__(self, account_id: str, position: int, expected: int, actual: int) -> None:
        """Name the account, the line and both versions."""
        super().__init__(
            f"Account {account_id} is at lock_version {actual}, the line demands {expected}.",
            pointer=f"/lines/{position}/lock_version",
        )
        self.actual = actual


class VersionUnknown(Refused):
    """An account has not had the version that it is asked for at."""

    def __init__(self, version: int, present: int) -> None:
        """Name the version that was asked for and the one the account is at."""
        super().__init__(
            f"The account is at lock_version {present}, not yet at {version}.", pointer="?as_of_lock_version"
        )
        self.present = present


class PreconditionFailed(Refused):
    """If-Match names another version than the resource has."""

    def __init__(self, lock_version: int) -> None:
        """Tell the version the resource has."""
        super().__init__(f"The resource is at lock_version {lock_version}.")
        self.lock_version = lock_version


class DuplicateEntry(Refused):
    """An entry with this external id exists and is accepted, pending or posted."""

    def __init__(self, external_id: str, entry_id: str) -> None:
        """Name the external id and the entry that has it."""
        super().__init__(f"Entry {entry_id} has external_id {external_id!r}.", pointer="/external_id")
        self.external_id = external_id
        self.entry_id = entry_id


class EntryNotPending(Refused):
    """Only a pending entry can be posted, archived or given other lines and another time."""

    def __init__(self, entry_id: str, status: str, *, pointer: str = "") -> None:
        """Name the entry and its status, and what of the request only a pending one takes."""
        only = f"; {pointer[1:]} can be changed only while it is pending" if pointer else ""
        super().__init__(f"Entry {entry_id} is {status}{only}.", pointer=pointer)
        self.entry_id = entry_id
        self.status = status


class CurrencyExponentUnknown(Refused):
    """A currency that neither ISO 4217 nor the site defines needs `currency_exponent`."""

    def __init__(self, currency: str) -> None:
        """Name the currency."""
        super().__init__(
            f"{currency!r} is no ISO 4217 currency, nor one of this site's own: define it with POST /v1/currencies, "
            "or say here how many minor digits it has.",
            pointer="/currency_exponent",
        )


class IdempotencyKeyReused(Refused):
    """The key was used before for another request."""

    def __init__(self, key: str) -> None:
        """Name the key."""
        super().__init__(f"Idempotency key {key!r} was used for another request.")
        self.key = key


class CursorInvalid(Refused):
    """Not a cursor of this feed, or not one of this list."""

    def __init__(self, why: str) -> None:
        """Say what is wrong with it."""
        super().__init__(f"The cursor is not usable: {why}.")
        self.why = why


class CursorExpired(Refused):
    """The feed no longer serves what follows this cursor."""

    def __init__(self, earliest: str, head: str) -> None:
        """Give the cursors of the earliest place that is served and of the head."""
        super().__init__("The feed no longer serves the events after this cursor.")
        self.earliest = earliest
        self.head = head


class IdempotencyInProgress(EngineError):
    """The first request with this key is still running."""

    def __init__(self, key: str) -> None:
        """Name the key."""
        super().__init__(f"A request with idempotency key {key!r} is still running.")
        self.key = key


class Overloaded(EngineError):
    """More commands wait than may; nothing was done."""

    def __init__(self) -> None:
        """Need nothing."""
        super().__init__("Too many commands are waiting.")


class Unavailable(EngineError):
    """The database did not answer in time; whether the command took effect is unknown where `unknown` is true."""

    def __init__(self, detail: str, *, unknown: bool = False) -> None:
        """Say what did not answer."""
        super().__init__(detail)
        self.unknown = unknown


class SiteUnknown(EngineError):
    """The database has no active row for the site."""

    def __init__(self, site_id: int) -> None:
        """Name the site by its number."""
        super().__init__(f"Site {site_id} is not in this database.")
        self.site_id = site_id


class BooksCorrupt(EngineError):
    """A check that can never fail has failed; nothing more is written."""
