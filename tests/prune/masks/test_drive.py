"""Segments for masks: what a Site reads is made before its segment, so that every node runs once."""

from __future__ import annotations

import numpy as np

from graphprune.ir.shapes import infer
from graphprune.ops import record_of
from graphprune.prune.masks.drive import squares, stages
from graphprune.statistics.segments import Layout
from graphprune.statistics.sites import find_sites
from tests.passes.mask_graphs import conv_net, decoder
from tests.proof.building import model


def test_inputs_of_all_sites_are_made_before_their_segment() -> None:
    for dense in (decoder(), conv_net()):
        layout, sites = Layout(dense, infer(dense, record_of)), find_sites(dense)
        segments = layout.segments(stages(layout, sites), sites)
        assert sum(len(segment.sites) for segment in segments) == len(sites)
        for segment in segments:
            assert all(site.edge.name not in segment.made for site in segment.sites)


def test_readers_of_one_edge_share_a_segment() -> None:
    dense = decoder()
    layout, sites = Layout(dense, infer(dense, record_of)), find_sites(dense)
    found = [[site.name for site in s.sites] for s in layout.segments(stages(layout, sites), sites)]
    assert [names for names in found if names] == [["wq", "wk", "wv"], ["wo"], ["up"], ["down"], ["head"]]


def test_nothing_is_cut_where_a_sequence_lives() -> None:
    dense = model(
        """(float[n,8] x) => (float[n,8] y, float[n,8] z) {
            a = MatMul(x, first)\n s = SequenceConstruct(a)\n b = MatMul(a, second)
            z = SequenceAt(s, zero)\n y = MatMul(b, last)
        }""",
        zero=np.array(0),
        first=(8, 8),
        second=(8, 8),
        last=(8, 8),
    )
    layout, sites = Layout(dense, infer(dense, record_of)), find_sites(dense)
    found = [[site.name for site in s.sites] for s in layout.segments(stages(layout, sites), sites)]
    assert found == [["first", "second"], ["last"]]


def test_squares_of_maps_and_tokens() -> None:
    rng = np.random.default_rng(0)
    sites = {site.name: site for site in (*find_sites(conv_net()), *find_sites(decoder()))}
    maps = rng.standard_normal((3, 8, 10, 10)).astype(np.float32)
    np.testing.assert_allclose(squares(sites["main"], maps, None), (maps**2).sum((0, 2, 3)), rtol=1e-5)
    rows = rng.standard_normal((3, 5, 16)).astype(np.float32)
    np.testing.assert_allclose(squares(sites["up"], rows, None), (rows**2).sum((0, 1)), rtol=1e-5)
    mask = np.arange(15) % 5 < 3
    expected = (rows.reshape(15, 16)[mask] ** 2).sum(0)
    np.testing.assert_allclose(squares(sites["up"], rows, mask), expected, rtol=1e-5)
