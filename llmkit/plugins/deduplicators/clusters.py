"""Clusters: what is joined, directly or by way of others, is one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Indices = NDArray[np.int64]


class Clusters:
    """The connected components of a graph that grows.

    label  (N,) for each of N, the least of its cluster
    """

    def __init__(self, n: int) -> None:
        self.label: Indices = np.arange(n, dtype=np.int64)

    def join(self, left: Indices, right: Indices) -> None:
        """Each of `left` with the one of `right` at its place."""
        if not len(left):
            return
        nodes, ends = np.unique(self.label[np.concatenate([left, right])], return_inverse=True)
        graph = coo_array((np.ones(len(left), np.bool_), (ends[: len(left)], ends[len(left) :])), shape=(len(nodes), len(nodes)))
        n, component = connected_components(graph, directed=False)
        least = np.full(n, len(self.label), np.int64)
        np.minimum.at(least, component, nodes)
        renamed = np.arange(len(self.label), dtype=np.int64)
        renamed[nodes] = least[component]
        self.label = renamed[self.label]

    def longest(self, sizes: Indices) -> Indices:
        """(N,) for each the one of its cluster with the greatest size, the first of several."""
        order = np.lexsort((np.arange(len(sizes)), -sizes, self.label))
        labels, first = np.unique(self.label[order], return_index=True)
        chosen = np.zeros_like(self.label)
        chosen[labels] = order[first]
        return chosen[self.label]
