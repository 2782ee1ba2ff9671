"""Connected components, as deduplicators join them."""

from __future__ import annotations

import random

import numpy as np

from llmkit.plugins.deduplicators.clusters import Clusters


def by_hand(n: int, edges: list[tuple[int, int]]) -> list[int]:
    """The least that each reaches, by walking."""
    beside: dict[int, set[int]] = {node: {node} for node in range(n)}
    for one, other in edges:
        beside[one].add(other)
        beside[other].add(one)
    least = [-1] * n
    for start in range(n):
        waiting = [start] if least[start] < 0 else []
        while waiting:
            node = waiting.pop()
            if least[node] < 0:
                least[node] = start
                waiting += beside[node]
    return least


def test_clusters_are_what_walking_the_graph_finds() -> None:
    rng = random.Random(0)
    for _ in range(30):
        n = rng.randint(1, 60)
        edges = [(rng.randrange(n), rng.randrange(n)) for _ in range(rng.randint(0, n))]
        clusters = Clusters(n)
        for start in range(0, len(edges), 7):
            some = np.array(edges[start : start + 7]).reshape(-1, 2)
            clusters.join(some[:, 0], some[:, 1])
        assert clusters.label.tolist() == by_hand(n, edges)


def test_the_longest_of_a_cluster_is_the_first_of_the_longest() -> None:
    clusters = Clusters(7)
    clusters.join(np.array([1, 3, 4]), np.array([3, 6, 0]))
    assert clusters.longest(np.array([5, 1, 9, 8, 5, 0, 8])).tolist() == [0, 3, 2, 3, 0, 5, 3]
