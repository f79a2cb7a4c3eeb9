"""Assignments against exhaustive search, components with an inside among them."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from connect.symmetry.groups import Family, Group
from connect.symmetry.matching import best_permutation


def family(size, follows=()):
    return Family(size, follows, ())


def similarity(group, tables, outer, inner):
    """The sum of similarities under a permutation, unit by unit; families of one unit do not move within."""
    total = 0.0
    for f, table in enumerate(tables):
        for c, d in enumerate(outer):
            for j in range(group.families[f].size):
                size = group.families[f].size
                total += float(table[c * size + j, d * size + inner[f][c][j]])
    return total


@pytest.mark.parametrize("seed", range(5))
def test_components_with_two_families_inside_are_matched_exactly(seed):
    generator = torch.Generator().manual_seed(seed)
    group = Group("heads", 3, (family(1), family(2), family(3)))
    tables = [torch.randn(3 * f.size, 3 * f.size, generator=generator) for f in group.families]
    found = best_permutation(group, tables)
    insides = list(product([(0,)], permutations(range(2)), permutations(range(3))))
    best = -np.inf
    for outer in permutations(range(3)):
        total = 0.0
        for c, d in enumerate(outer):
            total += max(
                sum(
                    float(tables[f][c * len(p) + j, d * len(p) + p[j]])
                    for f, p in enumerate(inside)
                    for j in range(len(p))
                )
                for inside in insides
            )
        best = max(best, total)
    assert similarity(group, tables, found.outer, found.inner) == pytest.approx(best, rel=1e-6)


def test_a_family_that_follows_two_others_moves_with_them():
    """Entries (r, d) of a component follow rows r and columns d."""
    rows, columns = np.divmod(np.arange(6), 3)
    follows = ((0, np.tile(rows, (2, 1))), (1, np.tile(columns, (2, 1))))
    group = Group("grouped queries", 2, (family(2), family(3), family(6, follows)))
    true_rows, true_columns = np.array([[1, 0], [0, 1]]), np.array([[2, 0, 1], [1, 2, 0]])
    table = torch.zeros(12, 12)
    for c, d in enumerate((1, 0)):
        for r in range(2):
            for k in range(3):
                table[c * 6 + r * 3 + k, d * 6 + true_rows[c][r] * 3 + true_columns[c][k]] = 1.0
    own = torch.zeros(6, 6)
    for c, d in enumerate((1, 0)):
        for k in range(3):
            own[c * 3 + k, d * 3 + true_columns[c][k]] = 0.1
    found = best_permutation(group, [None, own, table])
    np.testing.assert_array_equal(found.outer, [1, 0])
    np.testing.assert_array_equal(found.inner[0], true_rows)
    np.testing.assert_array_equal(found.inner[1], true_columns)
    np.testing.assert_array_equal(found.inner[2], [[5, 3, 4, 2, 0, 1], [1, 2, 0, 4, 5, 3]])
