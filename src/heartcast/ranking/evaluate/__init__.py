"""Offline evaluation: what a recommender would have put before people who then chose.

``splits`` hides events, ``metrics`` ranks the hidden ones among the whole catalogue,
``bootstrap`` says how sure the figures are, ``choice`` picks parameters on validation
data only, ``published`` compares with a published table on its own split, and
``off_policy`` asks what another policy would have earned from logged propensities.
"""
