"""Intents as a pure decider: ``decide``, ``evolve``, ``react``.

Nothing here does I/O, reads a clock or draws a random number; time and ids come in with commands.
"""
