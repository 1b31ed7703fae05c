"""The model names that a server answers to: a base model with its aliases, and LoRA adapters."""

from dataclasses import dataclass, field

from .openai_requests import ApiError


@dataclass(frozen=True, slots=True)
class ServedModels:
    """Names that a server answers to."""

    base: str
    aliases: tuple[str, ...] = ()
    adapters: dict[str, str] = field(default_factory=dict)
    """Adapter name to path; changes while the server runs."""

    def resolve(self, name: str | None) -> str | None:
        """The adapter behind a name, None for the base model. ApiError 404 when it is neither."""
        if name in self.adapters:
            return name
        if name is None or name == self.base or name in self.aliases:
            return None
        raise ApiError(404, f"The model `{name}` does not exist.", "NotFoundError", "model")

    def cards(self, *, created_s: int, max_model_len: int) -> list[dict[str, object]]:
        """Entries of /v1/models."""
        entries: list[tuple[str, str, str | None]] = [
            (name, self.base, None) for name in (self.base, *self.aliases)
        ]
        entries += [(name, path, self.base) for name, path in self.adapters.items()]
        return [
            {
                "id": name,
                "object": "model",
                "created": created_s,
                "owned_by": "vllm",
                "root": root,
                "parent": parent,
                "max_model_len": max_model_len,
            }
            for name, root, parent in entries
        ]
