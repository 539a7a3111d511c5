"""The words of event handlers: what one is defined by, as it is sent, stored and shown. Pure.

Every text of an entry's template may hold `{{ expressions }}`; what they mean is `engine.event_handlers`' to say.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec import field as member

from engine.expressions import PATH_LENGTH_MAX, Rounding
from engine.templates import TEMPLATE_LENGTH_MAX

CONDITIONS_MAX: Final = 100
CONDITIONS_DEPTH_MAX: Final = 8
VARIABLES_MAX: Final = 50
ENTRIES_MAX: Final = 20
LINES_MAX: Final = 200
"""How many lines the entries of one handler may have together."""

DIRECTIONS: Final = ("debit", "credit")
STATUSES: Final = ("posted", "pending")
Balance = Literal["available", "pending", "posted"]
Operator = Literal["gt", "gte", "lt", "lte", "eq"]
BALANCES: Final[tuple[Balance, ...]] = ("available", "pending", "posted")
OPERATORS: Final[tuple[Operator, ...]] = ("gt", "gte", "lt", "lte", "eq")

_CLEAN: Final = {"pattern": "^[^\\u0000]*$"}

FieldPath = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=PATH_LENGTH_MAX,
        extra_json_schema={**_CLEAN, "examples": ["event.name", "event.custom_data.amount"]},
        description="A path into the business event.",
    ),
]
TemplateText = Annotated[
    str,
    Meta(
        max_length=TEMPLATE_LENGTH_MAX,
        extra_json_schema={**_CLEAN, "examples": ["Top up for {{ variables.wallet.name }}"]},
        description="Text that may hold {{ expressions }}.",
    ),
]
AmountText = (
    Annotated[int, Meta(ge=1, le=9_223_372_036_854_775_807, description="Minor units.")]
    | Annotated[
        str,
        Meta(
            min_length=1,
            max_length=TEMPLATE_LENGTH_MAX,
            extra_json_schema={**_CLEAN, "examples": ["{{ event.amount * 0.02 }}"]},
            description="One {{ expression }}, or minor units as a string of digits.",
        ),
    ]
)
SignedAmountText = (
    Annotated[
        int,
        Meta(ge=-9_223_372_036_854_775_808, le=9_223_372_036_854_775_807, description="Minor units, may be negative."),
    ]
    | Annotated[
        str,
        Meta(
            min_length=1,
            max_length=TEMPLATE_LENGTH_MAX,
            extra_json_schema={**_CLEAN, "examples": ["{{ event.limit - 100 }}"]},
            description="One {{ expression }}, or minor units as a string of digits, with a sign where it is negative.",
        ),
    ]
)
TemplateMetadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=_CLEAN)], TemplateText],
    Meta(max_length=50),
]
VariableName = Annotated[
    str,
    Meta(
        pattern=r"^(?!(event|ledgerable_event|variables)$)[A-Za-z_][A-Za-z0-9_]{0,49}$(?!\n)",
        description="At most 50 letters, digits and `_`, no digit first, and not `event`, `ledgerable_event` or `variables`.",
    ),
]


class EventCondition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has to be so of a business event: one comparison of a field, or `and`, `or`, `not` over others."""

    field: FieldPath | UnsetType = UNSET
    operator: Literal["equals", "in", "gt", "gte", "lt", "lte"] | UnsetType = UNSET
    value: Any = UNSET
    all_of: Annotated[list[EventCondition], Meta(min_length=1)] | UnsetType = member(default=UNSET, name="and")
    any_of: Annotated[list[EventCondition], Meta(min_length=1)] | UnsetType = member(default=UNSET, name="or")
    none_of: EventCondition | UnsetType = member(default=UNSET, name="not")


class AccountQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an account is found: by an id or external id that it has, or by metadata that it contains."""

    field: Literal["id", "external_id", "metadata"]
    operator: Literal["equals", "contains"]
    value: TemplateText | TemplateMetadata


class Variable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that the entries refer to by name: an account by its query, or an amount by its value."""

    type: Literal["account", "amount"]
    query: AccountQuery | UnsetType = UNSET
    value: AmountText | UnsetType = UNSET


class BalanceTemplate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a balance has to be once the entry is made; all that are given have to hold."""

    gt: SignedAmountText | UnsetType | None = UNSET
    gte: SignedAmountText | UnsetType | None = UNSET
    lt: SignedAmountText | UnsetType | None = UNSET
    lte: SignedAmountText | UnsetType | None = UNSET
    eq: SignedAmountText | UnsetType | None = UNSET


class LineTemplate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line to be; one whose amount comes to zero is left out, with what it demands of its account."""

    account_id: TemplateText
    direction: TemplateText
    amount: AmountText
    metadata: TemplateMetadata = {}
    lock_version: AmountText | UnsetType | None = UNSET
    available_balance_amount: BalanceTemplate | UnsetType | None = UNSET
    pending_balance_amount: BalanceTemplate | UnsetType | None = UNSET
    posted_balance_amount: BalanceTemplate | UnsetType | None = UNSET


class EntryTemplate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry to be."""

    lines: Annotated[list[LineTemplate], Meta(min_length=2, max_length=LINES_MAX)]
    status: TemplateText = "posted"
    description: TemplateText | None = None
    effective_at: TemplateText | None = None
    external_id: TemplateText | None = None
    fx_rate_id: TemplateText | None = None
    metadata: TemplateMetadata = {}


class Definition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an event handler does: for which events, in which ledger if it names one, with what, and which entries."""

    conditions: EventCondition
    entries: Annotated[list[EntryTemplate], Meta(min_length=1, max_length=ENTRIES_MAX)]
    variables: Annotated[dict[VariableName, Variable], Meta(max_length=VARIABLES_MAX)] = {}
    rounding: Rounding = "half_even"
    ledger_id: (
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
                extra_json_schema={"format": "uuid"},
                description="The id of a ledger.",
            ),
        ]
        | None
    ) = None
