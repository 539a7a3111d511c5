"""What every table of a site is made with: the naming of constraints, and the types of ids and documents."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    MetaData,
    String,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    },
)

Id: Final = Uuid(as_uuid=False).with_variant(String(36), "sqlite")
Json: Final = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
