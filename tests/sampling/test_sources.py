"""Pictures, token files and arrays as pools, and files that are not what they seem."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from graphprune.errors import ArgumentError, DataError
from graphprune.sampling.images import Preparation, image_pool
from graphprune.sampling.pool import array_pool
from graphprune.sampling.tokens import token_pool

Image = pytest.importorskip("PIL.Image")


def save(path, pixels):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path):
    """A red 16x8 and a 8x8 picture that is green on the left and blue on the right, in folders."""
    red, halves = np.zeros((8, 16, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0], halves[:, :4, 1], halves[:, 4:, 2] = 255, 255, 255
    save(tmp_path / "photos" / "a" / "1.png", red)
    save(tmp_path / "photos" / "b" / "2.bmp", halves)
    return tmp_path / "photos"


def test_pictures_become_inputs(classifier, pictures):
    preparation = Preparation(mean=(0.5, 0.0, 0.0), std=(0.5, 1.0, 2.0))
    pool = image_pool(pictures, classifier, preparation)
    assert pool.count == 2
    (red,), (halves,) = pool.take([0])["image"], pool.take([1])["image"]
    assert red.shape == (3, 8, 8) and red.dtype == np.float32
    assert red[:, 0, 0] == pytest.approx([1, 0, 0])
    assert halves[:, 4, 1] == pytest.approx([-1, 1, 0])
    assert halves[:, 4, 6] == pytest.approx([-1, 0, 0.5])
    assert pool.take([1, 0])["image"][1] == pytest.approx(red)


def test_channels_may_come_the_other_way_round(classifier, pictures):
    halves = image_pool(pictures, classifier, Preparation(order="bgr")).take([1])["image"][0]
    assert halves[:, 4, 1] == pytest.approx([0, 1, 0]) and halves[:, 4, 6] == pytest.approx([1, 0, 0])


def test_the_centre_is_cropped(classifier, pictures):
    wide = np.zeros((8, 32, 3), np.uint8)
    wide[:, 12:20] = 255
    save(pictures / "c.png", wide)
    centre = image_pool(pictures, classifier, Preparation()).take([2])["image"][0]
    assert centre.min() > 0.99
    # At twice the size the white part covers the crop still, at half of it the border shows.
    assert image_pool(pictures, classifier, Preparation(resize=16)).take([2])["image"].min() > 0.99


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        (Preparation(mean=(0.1, 0.2)), "one value, or 3"),
        (Preparation(layout="nhwc"), "channels"),
    ],
)
def test_a_preparation_that_does_not_fit(classifier, pictures, preparation, message):
    with pytest.raises(ArgumentError, match=message):
        image_pool(pictures, classifier, preparation)


def test_a_deviation_must_be_positive():
    with pytest.raises(ArgumentError, match="positive"):
        Preparation(std=(1.0, 0.0, 1.0))


def test_broken_pictures_are_one_line(classifier, tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(DataError, match=r"cannot read the picture .*x\.png"):
        image_pool(tmp_path, classifier, Preparation()).take([0])
    with pytest.raises(DataError, match="no pictures"):
        image_pool(tmp_path / "none", classifier, Preparation())


def test_a_picture_that_claims_too_many_pixels(classifier, tmp_path, monkeypatch):
    save(tmp_path / "x.png", np.zeros((8, 16, 3), np.uint8))
    monkeypatch.setattr("graphprune.sampling.images.PIXEL_CAP", 100)
    with pytest.raises(DataError, match="16 x 8 pixels, too many"):
        image_pool(tmp_path, classifier, Preparation()).take([0])


def test_token_files_are_cut_into_windows(language, tmp_path):
    ids = np.arange(23) % 11
    np.save(tmp_path / "t.npy", ids)
    ids.astype(np.uint16).tofile(tmp_path / "t.bin")
    np.savez(tmp_path / "t.npz", ids)
    for name in ("t.npy", "t.bin", "t.npz"):
        pool = token_pool(tmp_path / name, language, 5)
        assert pool.count == 4
        taken = pool.take([1, 3])
        assert taken["input_ids"].dtype == np.int64
        assert taken["input_ids"].tolist() == [list(ids[5:10]), list(ids[15:20])]
        assert (taken["attention_mask"] == 1).all()


def test_rows_of_tokens_are_cut_one_by_one(language, tmp_path):
    np.save(tmp_path / "t.npy", np.arange(14).reshape(2, 7) % 11)
    pool = token_pool(tmp_path / "t.npy", language, 3)
    assert pool.take(range(4))["input_ids"].tolist() == [[0, 1, 2], [3, 4, 5], [7, 8, 9], [10, 0, 1]]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("t.npy", np.ones(9), "one array of token ids"),
        ("t.npy", np.arange(3), "no run of 5"),
        ("t.npy", np.zeros((2, 2, 9), int), "one array of token ids"),
        ("t.npy", -np.ones(9, int), "negative"),
        ("t.txt", None, "no token file"),
        ("t.bin", None, "no list of uint16"),
    ],
)
def test_what_is_no_token_file(language, tmp_path, name, array, message):
    if array is None:
        (tmp_path / name).write_bytes(b"abc")
    else:
        np.save(tmp_path / name, array)
    with pytest.raises(DataError, match=message):
        token_pool(tmp_path / name, language, 5).take([0])


def test_tokens_need_a_model_that_reads_them(classifier, tmp_path):
    np.save(tmp_path / "t.npy", np.arange(30))
    with pytest.raises(ArgumentError, match="does not take token ids"):
        token_pool(tmp_path / "t.npy", classifier, 5)


def test_a_folder_of_arrays_is_one_pool(rows, tmp_path):
    parts = [np.full((count, 6), count, np.float32) for count in (2, 3)]
    for number, part in enumerate(parts):
        np.savez(tmp_path / f"{number}.npz", x=part)
    pool = array_pool(tmp_path, rows)
    assert pool.count == 5
    assert pool.take([1, 2, 4])["x"][:, 0].tolist() == [2, 3, 3]


def test_numbers_that_are_none(rows, tmp_path):
    values = np.zeros((3, 6), np.float32)
    values[1, 2] = np.nan
    np.savez(tmp_path / "x.npz", x=values)
    with pytest.raises(DataError, match="'x' holds NaN"):
        array_pool(tmp_path / "x.npz", rows)


def test_an_archive_that_unpacks_to_more_than_the_limit(rows, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 100_000)
    monkeypatch.setattr("graphprune.runtime.data.BYTE_CAP", 50_000)
    with pytest.raises(DataError, match="unpacks to 100000 bytes"):
        array_pool(tmp_path / "x.npz", rows)
