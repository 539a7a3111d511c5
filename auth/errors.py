"""What can be wrong with a caller, a credential or a secret; whoever answers requests decides on the status.

AuthError
├── CredentialsMissing              no credential was sent
├── CredentialsRefused              a credential was sent and is no use; .reason says why, for the log, never for the caller
│   ├── CredentialsInvalid
│   ├── CredentialsExpired
│   └── CredentialsRevoked
├── ScopeInsufficient               .required .granted
├── ScopeError
│   ├── ScopeUnknown                .names
│   └── ScopeExceeded               .requested .granted: what one creates never exceeds its creator
├── ApiKeyError
│   ├── KeyNotFound                 .key_id
│   └── KeyLifetimeInvalid          .expires_at .earliest_at .latest_at
├── IdempotencyKeyReused            .key: the same key with another request
├── SiteError
│   ├── SiteNameInvalid             .field .value
│   ├── SiteUnknown                 .organization .environment
│   └── SiteExists                  .organization .environment: its credentials were shown already
├── ClientError
│   ├── ClientNotFound              .client_id
│   └── ClientExists                .name: the site has a client of this name
├── PeopleError
│   ├── SignInRefused               an unknown e-mail address or a wrong password: which, is nobody's business
│   ├── SignInThrottled             .wait_s: too many failed before; later it is answered again
│   ├── AdministratorExists         .email
│   ├── AdministratorNotFound       .email
│   ├── EmailInvalid                .value
│   ├── PasswordUnfit               too short or too long
│   └── SessionNotFound             .session_id
└── VaultError
    ├── MasterKeyInvalid
    ├── KeyUnavailable              .kek_id: the key that sealed it is not to be had (now)
    └── SealBroken                  changed, or moved from the row it was sealed for
"""

from __future__ import annotations

from collections.abc import Iterable


class AuthError(Exception):
    """The root of everything this package refuses."""


class CredentialsMissing(AuthError):
    """No credential was sent."""

    def __init__(self) -> None:
        super().__init__("no credential was sent")


class CredentialsRefused(AuthError):
    """A credential was sent and does not open anything; `reason` is for the log, not for the caller."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CredentialsInvalid(CredentialsRefused):
    """It is not, or never was, a credential of this server."""


class CredentialsExpired(CredentialsRefused):
    """It was good until it ran out."""


class CredentialsRevoked(CredentialsRefused):
    """It was taken back before it ran out."""


class ScopeInsufficient(AuthError):
    """The caller is known but may not do this."""

    def __init__(self, required: str, granted: Iterable[str]) -> None:
        super().__init__(f"needs the scope {required}")
        self.required = required
        self.granted = frozenset(granted)


class ScopeError(AuthError):
    """A set of scopes that cannot be given."""


class ScopeUnknown(ScopeError):
    """Names that are no scopes."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__("not a scope: " + ", ".join(self.names))


class ScopeExceeded(ScopeError):
    """More was asked for than the giver has."""

    def __init__(self, requested: Iterable[str], granted: Iterable[str]) -> None:
        self.requested = frozenset(requested)
        self.granted = frozenset(granted)
        super().__init__("exceeds what its creator may: " + ", ".join(sorted(self.requested - self.granted)))


class ApiKeyError(AuthError):
    """Something about an API key as a resource."""


class KeyNotFound(ApiKeyError):
    """The site has no such API key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no API key {key_id}")
        self.key_id = key_id


class KeyLifetimeInvalid(ApiKeyError):
    """An API key must run out, in the future and not too far; the bounds are instants in microseconds."""

    def __init__(self, expires_at: int, *, earliest_at: int, latest_at: int) -> None:
        super().__init__("expires_at lies outside of what an API key may live")
        self.expires_at = expires_at
        self.earliest_at = earliest_at
        self.latest_at = latest_at


class IdempotencyKeyReused(AuthError):
    """The key was used before, with another request."""

    def __init__(self, key: str) -> None:
        super().__init__("the idempotency key belongs to another request")
        self.key = key


class SiteError(AuthError):
    """Something about a site as a place."""


class SiteNameInvalid(SiteError):
    """A name that no organization or environment can have."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(f"{field} cannot be {value!r}")
        self.field = field
        self.value = value


class SiteUnknown(SiteError):
    """There is no such site."""

    def __init__(self, organization: str, environment: str) -> None:
        super().__init__(f"no site {organization}/{environment}")
        self.organization = organization
        self.environment = environment


class SiteExists(SiteError):
    """The site has its credentials, and they are shown only once; rotate them to get new ones."""

    def __init__(self, organization: str, environment: str) -> None:
        super().__init__(f"the site {organization}/{environment} has its credentials already; rotate to get new ones")
        self.organization = organization
        self.environment = environment


class ClientError(AuthError):
    """Something about an OAuth client."""


class ClientExists(ClientError):
    """The site has a client of this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the site has a client named {name} already")
        self.name = name


class ClientNotFound(ClientError):
    """There is no such OAuth client."""

    def __init__(self, client_id: str) -> None:
        super().__init__(f"no client {client_id}")
        self.client_id = client_id


class PeopleError(AuthError):
    """Something about a person who signs in."""


class SignInRefused(PeopleError):
    """The e-mail address is unknown or the password is wrong."""

    def __init__(self) -> None:
        super().__init__("the e-mail address and the password do not belong together")


class SignInThrottled(PeopleError):
    """Too many attempts failed; the next one is looked at after the wait."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many attempts failed: wait {wait_s:.0f} s")
        self.wait_s = wait_s


class AdministratorExists(PeopleError):
    """Somebody signs in with this e-mail address already."""

    def __init__(self, email: str) -> None:
        super().__init__(f"{email} signs in already: gledger admin reset gives a new password")
        self.email = email


class AdministratorNotFound(PeopleError):
    """Nobody signs in with this e-mail address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"no administrator {email}")
        self.email = email


class EmailInvalid(PeopleError):
    """Text that is no e-mail address."""

    def __init__(self, value: str) -> None:
        super().__init__(f"{value!r} is no e-mail address")
        self.value = value


class PasswordUnfit(PeopleError):
    """A password that is too short to be safe or too long to be one."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(f"a password has {least} to {most} characters")


class SessionNotFound(PeopleError):
    """The administrator has no such session (any more)."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id}")
        self.session_id = session_id


class VaultError(AuthError):
    """A secret that cannot be sealed or opened."""


class MasterKeyInvalid(VaultError):
    """The text is not 32 bytes in base64 or hexadecimal."""


class KeyUnavailable(VaultError):
    """The key-encryption key is not to be had."""

    def __init__(self, kek_id: str) -> None:
        super().__init__(f"the key-encryption key {kek_id} is not available")
        self.kek_id = kek_id


class SealBroken(VaultError):
    """The sealed bytes were changed, or belong to another row."""
