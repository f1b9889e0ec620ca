"""Channels, sessions, recovery, presence, fan-out.

``realtime.Realtime`` is what a program wires; ``hub.Hub`` is what the other parts of
it publish to; the gateway brings the sessions. A channel's messages are encoded once
and written once per session and tick. See ``docs/explanation/architecture.md``.
"""
