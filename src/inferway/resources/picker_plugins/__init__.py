"""The plugins that an EndpointPickerConfig can list: their names, parameters and what becomes of
them.

Problem: files of the reference picker name some ninety plugin types, over several releases; each
must be decoded as strictly as any other field, and each that is not served must say why. Model: one
`PluginType` per name, in a module per subject; `find_plugin_type` knows them all. What a served
type does is in `inferway.picker`; this room knows its parameters only.
"""
