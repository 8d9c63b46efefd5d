"""Photographs and clips on their way into the encoder."""

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ltx2.errors import Ltx2Warning, MediaError, RequestError
from ltx2.media import cover_geometry, h264_round_trip, images, open_image, prepare_clip, prepare_image

GEOMETRY = json.loads((Path(__file__).parent / "data" / "geometry.json").read_text("utf-8"))


def gradient(height=48, width=64):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, (x + y) * 2], axis=-1).clip(0, 255).astype(np.uint8)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("case", GEOMETRY, ids=lambda c: f"{c['src']}-{c['dst']}")
def test_geometry(case):
    resized, corner = cover_geometry(tuple(case["src"]), tuple(case["dst"]))
    assert [*resized] == case["resized"] and [*corner] == case["crop_top_left"]


def test_every_size_is_covered():
    for height in range(1, 90, 7):
        for width in range(1, 90, 5):
            for target in ((32, 32), (32, 96), (64, 32)):
                resized, (top, left) = cover_geometry((height, width), target)
                assert resized[0] >= target[0] and resized[1] >= target[1]
                assert resized[0] == target[0] or resized[1] == target[1]
                assert 0 <= top <= resized[0] - target[0] and 0 <= left <= resized[1] - target[1]


def test_all_sources_give_the_same_picture(tmp_path):
    pixels = gradient()
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    floats = torch.from_numpy(pixels).float() / 255
    for source in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        encoded(picture),
        picture,
        pixels,
        torch.from_numpy(pixels),
        floats,
        floats[None],
        floats.numpy(),
    ):
        opened = open_image(source)
        assert opened.dtype == np.uint8 and np.array_equal(opened, pixels)


def test_exif_orientation_turns_the_picture():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show it
    opened = open_image(encoded(Image.fromarray(gradient()), exif=exif))
    assert np.array_equal(opened, np.rot90(gradient(), -1))


def test_alpha_grey_palette_and_16_bit():
    pixels = gradient()
    alpha = np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=-1)
    assert np.array_equal(open_image(Image.fromarray(alpha)), pixels)
    assert np.array_equal(open_image(alpha), pixels)
    grey = pixels[..., 0]
    for source in (Image.fromarray(grey), encoded(Image.fromarray(grey.astype(np.uint16) * 257)), grey):
        assert np.array_equal(open_image(source), np.repeat(grey[..., None], 3, -1))
    palette = Image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8)).quantize(4)
    assert np.array_equal(open_image(palette)[0, 0], [10, 200, 30])


def test_colour_profile_becomes_srgb():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    image = Image.fromarray(np.full((4, 4, 3), (200, 40, 90), np.uint8))
    in_lab = ImageCms.profileToProfile(image, srgb, ImageCms.createProfile("LAB"), outputMode="LAB")
    opened = open_image(encoded(in_lab, "TIFF", icc_profile=lab))
    assert np.abs(opened.astype(int) - (200, 40, 90)).max() <= 3
    same = open_image(encoded(image, icc_profile=srgb.tobytes()))
    assert np.abs(same.astype(int) - (200, 40, 90)).max() <= 1


def test_broken_colour_profile_warns():
    with pytest.warns(Ltx2Warning, match="colour profile"):
        opened = open_image(encoded(Image.fromarray(gradient()), icc_profile=b"no profile"))
    assert np.array_equal(opened, gradient())


def test_unreadable_pictures_are_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("not a picture")
    good = encoded(Image.fromarray(gradient()), "JPEG")
    for source in (
        tmp_path / "text.png",
        b"",
        good[:200],
        good[:20],
        tmp_path / "absent.png",
        tmp_path,
        7,
        torch.zeros(2, 8, 8, 3),
        np.zeros((4, 4, 7)),
        torch.full((4, 4, 3), float("nan")),
        torch.full((4, 4, 3), 200.0),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(MediaError) as caught:
            open_image(source)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(MediaError, match="1,000 pixels"):
        open_image(encoded(Image.fromarray(gradient())))


def test_decompression_bomb_is_refused():
    width, height = 60_000, 60_000
    header = encoded(Image.new("1", (8, 8)))
    at = header.index(b"IHDR")
    chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + header[at + 12 : at + 17]
    import zlib

    bomb = header[:at] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[at + 21 :]
    with pytest.raises(MediaError, match="89,478,485"):
        open_image(bomb)


def test_h264_round_trip_degrades_with_crf_and_cuts_to_even():
    noisy = np.random.default_rng(0).integers(0, 256, (49, 65, 3), dtype=np.uint8)
    noisy = np.asarray(Image.fromarray(noisy).resize((65, 49)))
    fine, coarse = h264_round_trip(noisy, 5), h264_round_trip(noisy, 45)
    assert fine.shape == coarse.shape == (48, 64, 3)
    error = [np.abs(x.astype(float) - noisy[:48, :64]).mean() for x in (fine, coarse)]
    assert error[0] < error[1]
    assert np.array_equal(h264_round_trip(noisy, 33), h264_round_trip(noisy, 33))
    for off in (0, None):
        assert h264_round_trip(noisy, off) is noisy
    assert h264_round_trip(noisy[:1], 33).shape == (1, 65, 3)
    with pytest.raises(RequestError, match="0 .*51"):
        h264_round_trip(noisy, 60)


def test_without_pyav_the_round_trip_warns(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.warns(Ltx2Warning, match="PyAV"):
        assert h264_round_trip(gradient(), 33).shape == (48, 64, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        h264_round_trip(gradient(), 0)


def test_prepared_picture():
    out = prepare_image(gradient(), 48, 64, crf=0)
    assert out.shape == (1, 3, 1, 48, 64) and out.dtype == torch.float32
    expected = torch.from_numpy(gradient()).permute(2, 0, 1).float() / 127.5 - 1
    assert torch.equal(out[0, :, 0], expected)
    for size in ((32, 32), (96, 64), (64, 160)):
        out = prepare_image(gradient(), *size, crf=18)
        assert out.shape[-2:] == size and -1 <= out.min() and out.max() <= 1


def test_round_trip_comes_before_the_resize():
    big = np.asarray(Image.fromarray(gradient()).resize((256, 192)))
    ours = prepare_image(big, 48, 64, crf=40)
    expected = images.cover(h264_round_trip(big, 40), 48, 64)
    assert torch.equal(ours[0, :, 0], expected)


def test_enlarging_and_shrinking_filters():
    import torch.nn.functional as F

    pixels = torch.from_numpy(gradient()).permute(2, 0, 1)[None].float()
    larger = F.interpolate(pixels, size=(96, 128), mode="bilinear", align_corners=False) / 127.5 - 1
    assert torch.allclose(prepare_image(gradient(), 96, 128, crf=0)[:, :, 0], larger, atol=1e-6)
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[:, ::4] = 255  # thin lines: plain bilinear sampling at 1/4 would keep all of one or nothing of the other
    small = prepare_image(lines, 16, 16, crf=0)
    assert (small - (-0.5)).abs().max() < 0.15


def test_prepared_clip():
    frames = np.stack([gradient() // (i + 1) for i in range(9)])
    out = prepare_clip(frames, 32, 32)
    assert out.shape == (1, 3, 9, 32, 32)
    for i in (0, 8):
        assert torch.equal(out[0, :, i], prepare_image(frames[i], 32, 32, crf=0)[0, :, 0])
    floats = torch.from_numpy(frames).float() / 255
    assert torch.equal(prepare_clip(floats, 32, 32), out)
    with pytest.raises(MediaError, match="N, H, W, 3"):
        prepare_clip(frames[0], 32, 32)
    with pytest.raises(RequestError, match="positive"):
        prepare_clip(frames, 0, 32)


@pytest.mark.parametrize("mode", ("RGBA", "LA", "P"))
@pytest.mark.parametrize("clear", (True, False))
def test_transparent_parts_are_told(tmp_path, mode, clear):
    image = Image.new("RGBA", (4, 4), (200, 30, 40, 255))
    if clear:
        image.putpixel((0, 0), (0, 0, 0, 0))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert open_image(tmp_path / "a.png").shape == (4, 4, 3)
    found = [str(one.message) for one in told if one.category is Ltx2Warning]
    assert ["has transparent parts" in message for message in found] == [True] * clear
