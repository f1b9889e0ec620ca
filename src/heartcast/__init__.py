"""heartcast: hearts come in, content gets ranked, pushes go out.

The map, from the top down; a package imports only what stands below it:

    cli            the commands: serve, demo, token, doctor, hearts …
    testing        for your tests and ours: ManualClock, contract suites, a real server
    app            settings, assemble (the only place that chooses backends), lifespan
    gateway        the port: HTTP, WebSocket and SSE on one socket
    loadtest       clients by the thousand and a verdict; sees only wire and core
    api            REST: routes, bodies, identity, problems, the OpenAPI document
    hearts         who hearted what; exact counts, events, credit, audit, abuse
    push           templates, shards, gates, the inbox, webhooks, broadcasts
    realtime       channels, sessions, recovery, presence, fan-out
    ranking        hot boards, recommendations, rates, strategies
    streams        events for other programs: groups, acknowledgement, redelivery
    cluster        many nodes: leases, who owns which shard, messages between them
    resilience     limits, breakers, retries, shedding; usable alone
    backends       connections to SQLite and others; no domain words
    observability  metrics and logs
    wire           frames, codecs and envelopes that both ends share
    core           clock, errors, ids, hashing, bus, timing wheel
    web            the heart button, the sdk, the demo page, the console: static files
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
