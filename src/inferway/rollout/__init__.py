"""Incremental roll-outs: weights move step by step to a new version while measurements allow it.

Problem: moving traffic to new nodes, a new base model or a new adapter by hand means watching
dashboards between edits of a weight. Model: a `Rollout` names the weights and the gates; a pure
state machine (`machine`) turns what is seen now (weights, per-version statistics, clock) into what
is wanted (weights, status). Invariants: it changes the same weights that a person would change and
keeps nothing to itself: everything needed to go on after a crash is in the Rollout's `status`.
This room reads no files and no clocks; control drives it.
"""
