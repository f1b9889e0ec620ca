"""Many nodes: who is there, who owns which shard, and how they talk to each other.

There is no leader. Every node keeps a lease in the registry, reads the same list of living
nodes, and computes from it the same two answers: the *ring* says at which node a user or an
item is best served, and the *shares* say which node should own which shard. A shard is owned
by a lease with an epoch; a node takes what is assigned to it and free, and gives back what is
beyond its share.

    ring         pure: a key's node
    shares       pure: a shard's owner-to-be
    membership   this node's leases, and what everybody holds
    post         messages between nodes, at most once
    placement    what load balancers ask
    registry     where leases are kept: memory, Redis
    carrier      how messages travel: memory, Redis
"""
