"""starlingctl doctor: what is wrong with this host's second factor, why, and what to type.

``facts``, ``matches`` and ``outside`` look; every other file makes findings of what they saw, and looks at nothing
itself.
"""
