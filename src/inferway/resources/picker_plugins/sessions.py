"""Parameters of session affinity, which a scorer and a filter share."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from inferway.resources.meta import Model
from inferway.resources.scalars import (
    CookieName,
    HeaderName,
    ObjectName,
    PositiveCount,
)
from inferway.resources.violations import Violation, reject

from .plugin_type import ReadsHeaders

SESSION_HEADER = "x-session-id"  # the picker is told of it in any case
AttributeName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class EncodedEndpointHeader(Model):
    header: HeaderName = "x-session-token"


class SessionSource(Model):
    """One of the two."""

    header: HeaderName | None = None
    attribute: AttributeName | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.header is None) == (self.attribute is None):
            reject([Violation("needs either header or attribute")])
        return self


class SessionIdConfig(Model):
    sources: Annotated[tuple[SessionSource, ...], Field(min_length=1, max_length=8)] = (
        SessionSource(header=SESSION_HEADER),
    )
    eviction_ttl_s: PositiveCount = Field(
        default=300, alias="evictionTtlSeconds", description="a session is forgotten when unused"
    )
    eviction_sweep_s: PositiveCount | None = Field(default=None, alias="evictionSweepSeconds")


class SessionIds(Model):
    """`session-id-producer`"""

    header_name: HeaderName | None = Field(default=None, description="the session, by this header")
    cookie_name: CookieName | None = Field(
        default=None, description="or by this cookie, which clients without it get"
    )


class SessionAffinity(ReadsHeaders):
    """`session-affinity-scorer`, `session-affinity-filter`"""

    strategy: Literal["encoded_endpoint_header", "session_id"] = "encoded_endpoint_header"
    encoded_endpoint_header_config: EncodedEndpointHeader = EncodedEndpointHeader()
    session_id_config: SessionIdConfig = SessionIdConfig()
    profile_name: ObjectName | None = None

    def with_header(self, header: str) -> Self:
        """With this header wherever a source is an attribute."""
        sources = (
            one if one.attribute is None else SessionSource(header=header)
            for one in self.session_id_config.sources
        )
        ids = self.session_id_config.model_copy(update={"sources": tuple(sources)})
        return self.model_copy(update={"session_id_config": ids})

    def request_headers(self) -> tuple[str, ...]:
        if self.strategy == "encoded_endpoint_header":
            return (self.encoded_endpoint_header_config.header.lower(),)
        names = [one.header.lower() for one in self.session_id_config.sources if one.header]
        return tuple(name for name in names if name != SESSION_HEADER)
