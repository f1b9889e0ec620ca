from __future__ import annotations

import numpy as np

from heartcast.ranking.evaluate.metrics import evaluate
from heartcast.ranking.evaluate.served import Served
from heartcast.ranking.evaluate.splits import leave_last_out
from heartcast.ranking.interactions import interactions
from heartcast.ranking.recommenders import Popular


def test_the_running_code_is_asked_like_any_client_and_beats_popularity_where_there_is_taste():
    dice = np.random.default_rng(4)
    rows = []
    for user in range(60):
        topic = user % 4
        for step, item in enumerate(dice.permutation(10)[:7]):
            rows.append((user, topic * 10 + item, 1000 * step + user))
    table = np.array(rows)
    events = interactions(*table.T, np.ones(len(table)), 60, 40)
    split = leave_last_out(events)
    served = evaluate(Served(), split).overall
    # Three items of the topic are left for each user: finding the topic finds the item.
    # What is hot has its share, and here it leads astray.
    assert served["R@10"] > 0.95
    assert evaluate(Popular(), split).overall["R@10"] < 0.6
