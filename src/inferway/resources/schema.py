"""JSON schema of every kind, for editors and reference pages; generated from the models."""

from .kinds import KindInfo


def json_schema(info: KindInfo) -> dict[str, object]:
    """Draft 2020-12 schema of a manifest. Rules over several fields are not expressible and not in
    it.
    """
    return info.model.model_json_schema(by_alias=True, mode="validation")
