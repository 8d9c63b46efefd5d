"""A photograph made ready for the video encoder, as the models were trained: H.264 round trip, resize to cover, centre
crop."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..atomic_files import reason
from ..errors import Ltx2Warning, MediaError, RequestError, is_out_of_memory
from .frames import HIGHEST_FLOAT, Pixels, uint8_frames
from .paths import check_source, shown

LOWEST_FLOAT = 0.25  # resampling may undershoot black by so much at most
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # by which a still is told from a film
MAX_PIXELS = 89_478_485  # Pillow's own bound: 256 MiB of RGB
_SIXTEEN_BIT_FILES = ("PNG", "PPM")  # whose 16 bits Pillow hands out as 32


def open_image(source: Any) -> np.ndarray:
    """A picture as RGB uint8 [H, W, 3]: turned by its EXIF orientation, alpha dropped, colours converted to sRGB.

    source: a path, the bytes of an image file, a PIL image, or numpy/torch [H, W, 3] (uint8, or float in 0…1; a leading
    batch of one and an alpha channel are accepted). Raises MediaError for what is no picture, is damaged, or is above
    89,478,485 pixels; warns when a colour profile cannot be used.
    """
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _open_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, "the picture")
    if isinstance(source, (bytes, bytearray, memoryview)):
        name = f"the picture ({len(source)} bytes)"
        file: io.BytesIO | Path = io.BytesIO(source)
    elif isinstance(source, (str, Path)):
        file = check_source(source)
        name = shown(source)
    else:
        raise MediaError(
            f"a picture cannot be made from {type(source).__name__}: pass a path, bytes, PIL, numpy or torch"
        )
    try:
        image = Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"{name} is above the bound of {MAX_PIXELS:,} pixels: make it smaller") from error
    except Exception as error:  # damaged headers raise nearly anything
        if is_out_of_memory(error):
            raise
        # what Pillow says then is the name again, or an object
        why = "expected PNG, JPEG, WebP or the like" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise MediaError(f"{name} is not a readable image ({why})") from error
    with image:
        return _decode(image, name)


def _open_array(source) -> np.ndarray:
    if source.ndim == 4 and source.shape[0] != 1:
        raise MediaError(
            f"a picture has shape {list(source.shape)}, expected one picture [H, W, 3], found {source.shape[0]}"
        )
    if source.ndim == 2:  # grey
        source = (
            np.repeat(source[..., None], 3, -1)
            if isinstance(source, np.ndarray)
            else source[..., None].expand(-1, -1, 3)
        )
    frames = uint8_frames(source)
    _check_size(frames.shape[2], frames.shape[1], "the picture")
    return frames[0]


def _check_size(width: int, height: int, name) -> None:
    if width * height > MAX_PIXELS:
        raise MediaError(f"{name} is {width}x{height}, above the bound of {MAX_PIXELS:,} pixels: make it smaller")
    if width < 1 or height < 1:
        raise MediaError(f"{name} is {width}x{height}, expected at least one pixel")


def _decode(image: Image.Image, name) -> np.ndarray:
    _check_size(*image.size, name)
    profile = image.info.get("icc_profile")
    try:
        kind = image.format  # lost by turning
        _tell_of_transparency(image, name)
        image = ImageOps.exif_transpose(image)
        if image.mode in ("F", "I") or image.mode.startswith("I;16"):
            return np.repeat(_wide_grey(image, kind, name)[..., None], 3, axis=-1)
        flat = image.convert({"LA": "L", "1": "L", "CMYK": "CMYK", "LAB": "LAB", "L": "L"}.get(image.mode, "RGB"))
        return np.array(_to_srgb(flat, profile, name).convert("RGB"))
    except MediaError:
        raise
    except Exception as error:  # damaged pixel data raises nearly anything
        if is_out_of_memory(error):
            raise
        raise MediaError(f"{name} is damaged: its pixels cannot be read ({reason(error)})") from error


def _tell_of_transparency(image: Image.Image, name) -> None:
    """Warn of parts that a viewer does not show: what stands there is any colour, mostly black or white."""
    alpha = None
    if "A" in image.getbands():
        alpha = image.getchannel("A")
    elif "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
    if alpha is not None and any(alpha.histogram()[:255]):
        message = f"{name} has transparent parts, which are seen in the colour that is stored there: fill them first"
        warnings.warn(message, Ltx2Warning, stacklevel=4)


def _wide_grey(image: Image.Image, kind: str | None, name) -> np.ndarray:
    """Grey of more than 8 bits as uint8 [H, W], which Pillow itself would clip at 255. kind: of the file, such as
    TIFF."""
    values = np.asarray(image)
    if image.mode == "F":
        most = float(values.max())
        if not np.isfinite(values).all():
            raise MediaError(f"{name} holds NaN or infinite values: export it again")
        if float(values.min()) < -LOWEST_FLOAT:
            raise MediaError(
                f"{name} holds floats from {float(values.min()):.3g} on, expected 0…1: save it with 8 or 16 bits"
            )
        if most > HIGHEST_FLOAT:
            raise MediaError(f"{name} holds floats up to {most:.3g}, expected 0…1: save it with 8 or 16 bits")
        return np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    if image.mode == "I" and kind not in _SIXTEEN_BIT_FILES:
        raise MediaError(
            f"{name} holds 32-bit whole numbers up to {int(values.max()):,} and does not say which one is white: save "
            "it with 8 or 16 bits"
        )
    return np.rint(values.astype(np.int64).clip(0, 65535) / 257).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes | None, name) -> Image.Image:
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"{name} has a colour profile that cannot be used ({reason(error)}): taken as sRGB",
            Ltx2Warning,
            stacklevel=2,
        )
        return image


def h264_round_trip(image: np.ndarray, crf: float | None) -> np.ndarray:
    """What an H.264 encoder at quality ``crf`` leaves of a picture: the models saw compressed video, a clean photograph
    freezes them.

    image: uint8 [H, W, 3]; the result is cut to even sides at the right and bottom. crf 0 or None, or a side below 2,
    leaves the picture as it is. Warns and does nothing where PyAV or its libx264 is absent. Checked against ltx-core
    1.0.0.
    """
    if not crf:
        return image
    if not isinstance(crf, (int, float)) or not 0 < crf <= 51:
        raise RequestError(f"picture compression (CRF) is {crf!r}, expected 0 (off) to 51")
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    if not height or not width:
        return image
    try:
        import av

        av.codec.Codec("libx264", "w")
    except (ImportError, ValueError):
        warnings.warn(
            "pictures are used without the H.264 round trip, so the video may hardly move: PyAV with libx264 is not "
            "installed (`pip install av`)",
            Ltx2Warning,
            stacklevel=2,
        )
        return image
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def cover_geometry(source: tuple[int, int], target: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size (height, width) that just covers ``target``, and the top left of the centre crop. Sizes are rounded up,
    offsets down."""
    (height, width), (to_height, to_width) = source, target
    # scale = max(to_height / height, to_width / width), kept as a fraction: a float product may land just above an
    # integer
    above, below = (to_height, height) if to_height * width >= to_width * height else (to_width, width)
    resized = -(-height * above // below), -(-width * above // below)
    return resized, ((resized[0] - to_height) // 2, (resized[1] - to_width) // 2)


def cover(image: np.ndarray, height: int, width: int) -> torch.Tensor:
    """One uint8 picture [h, w, 3] as float32 [3, H, W] in -1…1: resized to cover (bilinear), centre cropped."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()  # [3, h, w]
    resized, (top, left) = cover_geometry((pixels.shape[1], pixels.shape[2]), (height, width))
    if resized != tuple(pixels.shape[1:]):
        # Shrinking without antialias makes thin lines flicker, which the model then animates.
        shrinks = resized[0] < pixels.shape[1]
        pixels = F.interpolate(pixels[None], size=resized, mode="bilinear", align_corners=False, antialias=shrinks)[0]
    return pixels[:, top : top + height, left : left + width].div(127.5).sub_(1)


def prepare_image(source: Any, height: int, width: int, *, crf: float | None) -> torch.Tensor:
    """A picture ready for the video encoder: float32 [1, 3, 1, H, W] in -1…1.

    source: see :func:`open_image`. crf: of the H.264 round trip, which comes before the resize; 0 or None turns it off
    (right for frames that came out of our own decoder). Raises MediaError and RequestError.
    """
    _check_target(height, width)
    return cover(h264_round_trip(open_image(source), crf), height, width)[None, :, None]


def prepare_clip(frames: Pixels, height: int, width: int) -> torch.Tensor:
    """Consecutive pictures ready for the video encoder: float32 [1, 3, N, H, W] in -1…1; no H.264 round trip.

    frames: [N, H, W, 3], uint8 or float in 0…1, numpy or torch. Raises MediaError.
    """
    _check_target(height, width)
    if frames.ndim != 4 or not len(frames):
        raise MediaError(f"a clip has shape {list(frames.shape)}, expected [N, H, W, 3] with at least one frame")
    out = torch.empty(1, 3, len(frames), height, width)
    for i in range(len(frames)):
        out[0, :, i] = cover(uint8_frames(frames[i])[0], height, width)
    return out


def _check_target(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise RequestError(f"picture size is {width}x{height}, expected positive sides")
