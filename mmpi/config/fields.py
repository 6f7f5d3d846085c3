"""Fields: what every configuration table is made of: numbers, choices, exact amounts, texts, with bounds and meanings.

Invariant: nothing is converted silently, and no bound is without its words in the JSON Schema.
It must not know which keys there are.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mmpi.instrument import Money, money_text

MOST_MONEY: Final = 10**9
"""A billion: with its twelve decimals it still fits the 28 digits in which decimals are exact."""
MOST_TEXT: Final = 250
"""Characters of a text: a path, a URL or a sentence; more is a slip."""
_HOST_AND_PORT: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?")


def _decimal(value: object) -> object:
    """Return the decimal that was written, quoted or not; anything else unchanged, for pydantic to refuse."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return value


def _base_url(value: str) -> str:
    """Return `value` if it is empty or scheme://host[:port] without a password; ValueError otherwise."""
    parts = urlsplit(value)
    whole = value == f"{parts.scheme}://{parts.netloc}" and parts.port != 0
    if value and not (whole and parts.scheme in ("http", "https") and _HOST_AND_PORT.fullmatch(parts.netloc)):
        raise ValueError("not a base URL")
    return value


def number(
    default: float, meaning: str, *, le: float, gt: float | None = None, ge: float | None = None, unit: str = ""
) -> Any:
    """Return the field of a number between two bounds; `unit` where the key's name does not say it."""
    extra: Any = {"x-unit": unit} if unit else None
    return Field(default, description=meaning, gt=gt, ge=ge, le=le, json_schema_extra=extra)


def choice(default: str | bool, meaning: str) -> Any:
    """Return the field of one of a few words, or of true and false."""
    return Field(default, description=meaning)


def amount(default: str, meaning: str, unit: str, *, gt: int | None = None, ge: int | None = None) -> Any:
    """Return the field of an exact decimal."""
    extra: Any = {"x-unit": unit}
    return Field(
        Decimal(default), description=meaning, gt=gt, ge=ge, le=MOST_MONEY, decimal_places=12, json_schema_extra=extra
    )


def quote_amount(default: Money, meaning: str) -> Any:
    """Return the field of an exact amount above 0 of the quote currency."""
    return amount(money_text(default), meaning, "quote currency", gt=0)


def text(meaning: str, allowed: str, default: str = "", pattern: str | None = None) -> Any:
    """Return the field of a text; `allowed` says what `pattern` means."""
    extra: Any = {"x-allowed": allowed}
    return Field(default, description=meaning, pattern=pattern, max_length=MOST_TEXT, json_schema_extra=extra)


def folder(meaning: str) -> Any:
    """Return the field of an absolute path."""
    return text(meaning, "an absolute path, or empty", pattern=r"^(/[^\x00-\x1f]*)?$")


Amount = Annotated[Decimal, BeforeValidator(_decimal)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]


class Section(BaseModel):
    """A table: nothing unknown in it, no type changed silently, no NaN, no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)
