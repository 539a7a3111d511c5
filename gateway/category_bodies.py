"""The request bodies of categories and monitors; each knows the command it stands for."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from engine.category_commands import (
    CreateCategory,
    CreateMonitor,
    MonitorField,
    Operator,
    UpdateCategory,
    UpdateMonitor,
)
from engine.errors import Fault
from gateway.bodies import Currency, Description, Exponent, ExternalId, Id, Metadata, Name
from gateway.limit_bodies import BalanceAmount, LimitList, limits_of
from gateway.problems import invalid
from gateway.wire import signed_amount_of


class AccountCategoryCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens a category; with `ledger_id` it takes accounts and categories of that ledger only."""

    name: Name
    currency: Currency
    normal_balance: Literal["debit", "credit"]
    currency_exponent: Exponent | None = None
    ledger_id: Id | None = None
    description: Description | None = None
    external_id: ExternalId | None = None
    limits: LimitList = []
    metadata: Metadata = {}

    def command(self) -> CreateCategory:
        """Return what the books are to do."""
        return CreateCategory(
            name=self.name,
            currency=self.currency,
            normal_balance=self.normal_balance,
            currency_exponent=self.currency_exponent,
            ledger_id=self.ledger_id,
            description=self.description,
            external_id=self.external_id,
            limits=limits_of(self.limits),
            metadata=self.metadata,
        )


class AccountCategoryChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about a category; what is left out stays, metadata is given whole."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    limits: LimitList | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET

    def command(self, category_id: str, if_match: int | None) -> UpdateCategory:
        """Return what the books are to do."""
        return UpdateCategory(
            category_id=category_id,
            if_match=if_match,
            name=None if self.name is UNSET else self.name,
            description=None if self.description is UNSET else self.description,
            clear_description=self.description is None,
            limits=None if self.limits is UNSET else limits_of(self.limits),
            metadata=None if self.metadata is UNSET else self.metadata,
        )


class MonitorConditionCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to watch for: a balance's amount in minor units, or the lock_version, compared with a value."""

    field: MonitorField
    operator: Operator
    value: BalanceAmount

    def compared_with(self) -> int:
        """Return the value as a number."""
        return signed_amount_of(self.value, "/condition/value")


class BalanceMonitorCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What watches an account or a category: exactly one of the two is named."""

    condition: MonitorConditionCreate
    account_id: Id | None = None
    account_category_id: Id | None = None
    description: Description | None = None
    metadata: Metadata = {}

    def command(self) -> CreateMonitor:
        """Return what the books are to do; raises the problem of a monitor on nothing or on two things."""
        if self.account_id is not None and self.account_category_id is not None:
            detail = "A monitor watches an account or a category, not both."
            raise invalid([Fault(code="validation.invalid_value", pointer="/account_category_id", detail=detail)])
        subject_id = self.account_id or self.account_category_id
        if subject_id is None:
            detail = "Name the account_id or the account_category_id to watch."
            raise invalid([Fault(code="validation.required_field_missing", pointer="/account_id", detail=detail)])
        return CreateMonitor(
            subject="account_category" if self.account_id is None else "account",
            subject_id=subject_id,
            field=self.condition.field,
            operator=self.condition.operator,
            value=self.condition.compared_with(),
            description=self.description,
            metadata=self.metadata,
        )


class BalanceMonitorChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about a monitor; what is left out stays, metadata is given whole."""

    condition: MonitorConditionCreate | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET

    def command(self, monitor_id: str, if_match: int | None) -> UpdateMonitor:
        """Return what the books are to do."""
        condition = None if self.condition is UNSET else self.condition
        return UpdateMonitor(
            monitor_id=monitor_id,
            if_match=if_match,
            field=None if condition is None else condition.field,
            operator=None if condition is None else condition.operator,
            value=None if condition is None else condition.compared_with(),
            description=None if self.description is UNSET else self.description,
            clear_description=self.description is None,
            metadata=None if self.metadata is UNSET else self.metadata,
        )
