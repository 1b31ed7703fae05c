"""Keeps the LoRA adapters of model servers as a file says: the adapter syncer.

Problem: a roll-out of an adapter begins with its new version being on every server, and a server
that restarts comes back with none. Model: one configuration file (the one of the upstream syncer)
says which adapters must be there and which must not; `plan` compares that with what a server lists
and gives the calls to make; `syncer` makes them, on every change of the file and every few seconds.
What this room does not do: decide who gets requests (an InferenceModel or InferenceModelRewrite
does), or move the adapters' files.
"""
