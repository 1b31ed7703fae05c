"""`inferway rollout`: starts, shows and steers roll-outs.

Every command is an edit of a Rollout in the manifests, or a look at what control says of it; a
person can do the same with an editor. Control does the work.
"""
