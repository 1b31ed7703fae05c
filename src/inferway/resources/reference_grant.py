"""ReferenceGrant: the objects of one namespace that kinds of other namespaces may refer to.

A grant stands in the namespace that is referred to, so its owner decides. Whether a reference needs
one, and whether one fits, is routing's business.
"""

from typing import Annotated, Literal

from pydantic import Field

from .meta import Model, Object
from .scalars import Group, Kind, Namespace, ObjectName


class ReferenceGrantFrom(Model):
    """Who may refer: objects of this kind in that namespace."""

    group: Group
    kind: Kind
    namespace: Namespace


class ReferenceGrantTo(Model):
    """What may be referred to, in the namespace of the grant. `name` None: every object of the
    kind.
    """

    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(Model):
    """Every entry of `from_` may refer to every entry of `to`."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], Field(min_length=1, max_length=16)] = Field(
        alias="from"
    )
    to: Annotated[tuple[ReferenceGrantTo, ...], Field(min_length=1, max_length=16)]


class ReferenceGrant(Object):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"] = (
        "gateway.networking.k8s.io/v1"
    )
    kind: Literal["ReferenceGrant"] = "ReferenceGrant"
    spec: ReferenceGrantSpec
