"""The metadata of a registered version, as MLflow returns it: whoever can write there may have changed anything."""

import json
import re
from typing import Annotated, Any, NotRequired, TypedDict, cast

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from pipeline.errors import StepError
from pipeline.records import Encoding, TrainingStatistics


class Metadata(TypedDict):
    """The metadata that promote_model registers with a version; only a table's version has an encoding."""

    classes: list[str]
    input_shape: list[int]
    input_dtype: str
    metrics: dict[str, object]
    training_statistics: TrainingStatistics
    samples: NotRequired[dict[str, str] | None]
    data_hash: str
    git_commit: str
    encoding: NotRequired[Encoding]


Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(max_length=10_000)]


class _Checked(BaseModel):
    """A part of the metadata: no value is converted, and other keys are allowed."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Pixels(_Checked):
    minimum: FiniteFloat
    maximum: FiniteFloat
    whole: bool
    channels: Annotated[str, Field(pattern="^(RGB|BGR)$")]


class _Input(_Checked):
    statistic: Text
    edges: list[FiniteFloat]
    counts: list[Count]


class _Statistics(_Checked):
    rows: Count
    class_counts: list[Count]
    inputs: list[_Input]
    pixels: _Pixels | None = None


class _Metadata(_Checked):
    classes: Annotated[list[Text], Field(min_length=2)]
    input_shape: Annotated[list[Size], Field(min_length=1)]
    input_dtype: Annotated[str, Field(pattern="^(uint8|float32)$")]
    metrics: dict[Text, Any]
    training_statistics: _Statistics
    samples: dict[Text, str] | None = None
    data_hash: Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")]
    git_commit: Annotated[str, Field(pattern="^[ -~]{1,200}$")]
    encoding: dict[Text, Any] = {}


def checked(metadata: object, name: str) -> Metadata:
    """Return the metadata of the version called `name`. Raises StepError with the first part that is wrong."""
    canonical_text(metadata, name)
    try:
        _Metadata.model_validate(metadata)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the metadata"
        raise StepError(
            f"{name} cannot be served: {place} in its metadata is wrong ({first['msg']}); log it with the metadata of "
            "a version that promote_model registered"
        ) from error
    return cast(Metadata, metadata)


def canonical_text(metadata: object, name: str) -> str:
    """Return metadata as JSON with sorted keys, in which equal metadata is equal. Raises StepError.

    PostgreSQL's jsonb holds neither NaN nor the character NUL nor half of a surrogate pair.
    """
    try:
        text = json.dumps(metadata, sort_keys=True, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise StepError(
            f"{name} cannot be served: its metadata is not valid JSON; log it again with other metadata"
        ) from error
    # A backslash before it would make it the text of an escape sequence.
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise StepError(f"{name} cannot be served: its metadata has the character NUL; log it again without it")
    return text
