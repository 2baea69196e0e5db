"""Parse the payloads of Label Studio's webhooks about annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ml_backend.errors import InvalidRequest
from ml_backend.studio.payloads import is_accepted_unseen, is_not_assessable, origin_of


class DeletedAnnotation(BaseModel):
    """An annotation that was deleted: Label Studio sends only its ID."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: int = Field(ge=1)


class AnnotationEvent(DeletedAnnotation):
    """An annotation that was created or updated; fields that are not listed here are dropped unread."""

    task: int = Field(ge=1)
    was_cancelled: bool | None = False
    lead_time: float | None = None
    parent_prediction: int | None = None
    updated_by: int | None = None
    result: Any = Field(None, repr=False)

    @property
    def not_assessable(self) -> bool:
        """Whether the annotation says that the frame cannot be judged."""
        return is_not_assessable(self.result)

    @property
    def accepted_unseen(self) -> bool:
        """Whether the Data Manager copied a prediction into this annotation and nobody has opened it since."""
        return is_accepted_unseen(self.model_dump())

    @property
    def imported(self) -> bool:
        """Whether `tsal import-labels` made the annotation, and nobody has updated it since."""
        return origin_of(self.result) is not None


Part = TypeVar("Part", bound=DeletedAnnotation)
_EVENTS: TypeAdapter[list[AnnotationEvent]] = TypeAdapter(list[AnnotationEvent])
_DELETIONS: TypeAdapter[list[DeletedAnnotation]] = TypeAdapter(list[DeletedAnnotation])


def annotations_in(payload: Mapping[str, Any]) -> list[AnnotationEvent]:
    """Read the annotations of a webhook about created or updated ones; empty where it has no payload.

    Raises InvalidRequest, which names the field, where the payload is not of the form that Label Studio sends.
    """
    return _parts(payload, _EVENTS)


def deletions_in(payload: Mapping[str, Any]) -> list[DeletedAnnotation]:
    """Read the annotations of a webhook about deleted ones; raises as `annotations_in` does."""
    return _parts(payload, _DELETIONS)


def _parts(payload: Mapping[str, Any], shape: TypeAdapter[list[Part]]) -> list[Part]:
    """Single events hold one annotation, bulk events a list, under either of two names."""
    name = "annotations" if "annotations" in payload else "annotation"
    content = payload.get(name, [])
    try:
        return shape.validate_python(content if isinstance(content, list) else [content])
    except ValidationError as error:
        raise InvalidRequest.of(error, within=name) from None
