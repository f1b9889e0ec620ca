"""PushBench: load from outside, and proof of what arrived.

    scenario      what to do to a server: typed, from flags or a TOML file
    arrivals      when to send: open loop, Poisson or constant, rates that change
    pacer         wakes the event loop at those moments, to a tenth of a millisecond
    http          requests, pipelined, each timed from its intended moment
    sockets       thousands of WebSocket clients, a few hundred bytes each
    sessions/     what a client says and hears, one file for each protocol
    marks         what every message carries: stream, sequence, time, checksum
    verdict       lost, doubled, reordered, late, damaged: counted exactly, with examples
    meter         latencies second by second
    target        which server, is it there, its tokens, its processor and memory
    run           one run of one scenario, from the first connection to the report
    outcome       what a run leaves, which can be sent and added up
    crew          several processes, one load, one verdict
    scenarios/    what each kind of scenario does
    report        the outcome as data; ``page`` and ``plots`` make one HTML file of it
    sweep, usl    how throughput grows with concurrency: measured, and the law of it
    capacity      how many machines that means

The tester is a client among others: it imports nothing of the server but ``wire``. Load
is *open*: requests go out when the schedule says, whether or not earlier ones were
answered, and every latency counts from that intended moment, so that a server which
stands still for a second is charged with everyone who would have come in that second.
"""
