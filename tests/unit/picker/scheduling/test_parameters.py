"""What a manifest may say of a plugin is what the plugin takes, with the same defaults."""

from __future__ import annotations

import pytest

from inferway.picker.scheduling.plugins import parameters_of
from inferway.picker.scheduling.registry import PLUGINS
from inferway.resources.picker_plugins.plugin_type import SCHEDULING
from inferway.resources.picker_plugins.registry import PLUGIN_TYPES

SERVED = [
    name
    for name, one in PLUGIN_TYPES.items()
    if one.is_served and not one.roles.isdisjoint(SCHEDULING)
]
# Parameters that only code gives.
INTERNAL = {"marginal-cost": {"constants"}}


@pytest.mark.parametrize("name", SERVED)
def test_parameters(name: str) -> None:
    theirs = {
        field.alias or key: field
        for key, field in PLUGIN_TYPES[name].parameters.model_fields.items()
        if (field.alias or key) not in PLUGIN_TYPES[name].ignored
    }
    ours = {
        field.alias or key: field
        for key, field in parameters_of(PLUGINS[name]).model_fields.items()
        if key not in INTERNAL.get(name, ())
    }
    assert list(ours) == list(theirs)
    for key, field in ours.items():
        assert not field.is_required() or theirs[key].is_required()
        # None stands for an object or a list, which a constructor cannot have as its default.
        if field.get_default() is not None and not field.is_required():
            assert field.get_default() == theirs[key].get_default(call_default_factory=True)


def test_every_plugin_can_be_named_in_a_manifest() -> None:
    assert set(PLUGINS) == set(SERVED)
