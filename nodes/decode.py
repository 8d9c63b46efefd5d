"""Latents to frames and sound, in memory or straight into a file."""

from dataclasses import replace

import torch

from ..ltx2 import clock
from ..ltx2.errors import RequestError
from ..ltx2.film import FinishedSegment, file_format, write_film
from ..ltx2.stages import steps
from ..ltx2.stages.models import Models
from ..ltx2.stages.video_decoding import pictures
from ..ltx2.values import AVLatent, Waveform
from . import host, reporting, sockets
from .placement import models_of
from .sockets import AudioVae, LatentValue, VideoVae, audio_value

MODES = {
    "auto": "auto",
    "streaming": "stream",
    "tiled": "tiles",
    "whole": "whole",
}
MODE_TOOLTIP = (
    "auto: by the memory that is free. streaming: piece by piece in time, the same frames in little memory. tiled: in overlapping "
    "tiles, least memory, seams are blended. whole: at once, most memory. Diffusion decoders tile where others stream."
)


class DecodeVideo(host.io.ComfyNode):
    """Latents to frames."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "DecodeVideo",
            "Decode LTX-2 Video",
            "decode",
            description="Decodes the picture of a clip to frames. For long clips that only go to a file use Decode to File.",
            inputs=[
                host.field(sockets.Latent, "latent", "The clip from Denoise or Refine."),
                host.field(VideoVae, "video_vae", "The model's video VAE."),
                host.field(io.Combo, "memory", MODE_TOOLTIP, options=list(MODES), default="auto"),
            ],
            outputs=[
                host.output(io.Image, "images", "All frames of the clip."),
                host.output(io.Float, "fps", "Frames per second."),
            ],
        )

    @classmethod
    def execute(cls, latent, video_vae, memory="auto"):
        pieces = frames_of(
            models_of(video_vae=video_vae, video_decoding=MODES[memory], made_with=latent.version), latent
        )
        return host.io.NodeOutput(images_of(pieces, latent_of(latent)), float(latent.geometry.fps))


class DecodeAudio(host.io.ComfyNode):
    """Latents to sound."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "DecodeAudio",
            "Decode LTX-2 Audio",
            "decode",
            description="Decodes the sound of a clip. A track of one's own comes out as it went in.",
            inputs=[
                host.field(sockets.Latent, "latent", "The clip from Denoise or Refine."),
                host.field(AudioVae, "audio_vae", "The model's audio VAE."),
            ],
            outputs=[host.output(io.Audio, "audio", "The sound of the clip, stereo.")],
        )

    @classmethod
    def execute(cls, latent, audio_vae):
        return host.io.NodeOutput(audio_value(sound_of(models_of(audio_vae=audio_vae), latent)))


class DecodeToFile(host.io.ComfyNode):
    """Latents to an MP4, frame by frame."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "DecodeToFile",
            "Decode LTX-2 to File",
            "decode",
            description="Decodes picture and sound straight into an MP4 in the output folder. Frames are written while later ones are "
            "still to be decoded, so length costs no memory. The workflow travels in the file.",
            is_output_node=True,
            inputs=[
                host.field(sockets.Latent, "latent", "The clip from Denoise or Refine."),
                host.field(VideoVae, "video_vae", "The model's video VAE."),
                host.field(
                    io.String,
                    "filename_prefix",
                    "Name in the output folder; may have folders and the tokens of ComfyUI's own save nodes: film/%date:yyyy-MM-dd%.",
                    default="continuum/clip",
                ),
                host.field(
                    AudioVae, "audio_vae", "The model's audio VAE; without it the film is silent.", optional=True
                ),
                host.field(io.Combo, "memory", MODE_TOOLTIP, options=list(MODES), default="auto"),
                host.field(
                    io.Int,
                    "crf",
                    "H.264 quality: 0 lossless, 18 hardly to be told from it, 51 worst.",
                    default=18,
                    min=0,
                    max=51,
                ),
            ],
            outputs=[
                host.output(io.Video, "video", "The saved film."),
                host.output(io.String, "file", "Its name in the output folder."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, latent, video_vae, filename_prefix, audio_vae=None, memory="auto", crf=18):
        models = models_of(
            video_vae=video_vae, audio_vae=audio_vae, video_decoding=MODES[memory], made_with=latent.version
        )
        sound = None if audio_vae is None else sound_of(models, latent)
        target = host.save_target(filename_prefix, cls.hidden, (latent.geometry.width, latent.geometry.height))
        write_film(
            target.path(".mp4"),
            [whole_clip(latent, frames_of(models, latent), sound)],
            file_format([sound]),
            crf=crf,
            metadata=host.workflow_texts(cls.hidden, latent.notes),
        )
        video = host.InputImpl.VideoFromFile(str(target.path(".mp4")))
        return host.io.NodeOutput(
            video, target.annotated(".mp4"), ui={"images": [target.result(".mp4")], "animated": (True,)}
        )


# ---------------------------------------------------------------------------------------------------------------


def latent_of(clip: LatentValue) -> AVLatent:
    """Raises RequestError for a clip that was not denoised."""
    if clip.latent is None:
        raise RequestError("the clip is still empty: connect the latent that comes out of Denoise or Refine")
    return clip.latent


def frames_of(models: Models, clip: LatentValue, report=None):
    """Pieces [n, H, W, 3] float32 in 0…1 of a clip that was denoised, in order of time."""
    report = report or reporting.reporter("video decoding")
    for pixels in steps.decode_pixels(models, latent_of(clip).video, clip.rng_state, progress=report):
        host.check_interrupted()
        yield pictures(pixels)


def images_of(pieces, latent: AVLatent) -> torch.Tensor:
    """All frames [N, H, W, 3] in one tensor, which is filled as they come, so that there is never a second copy."""
    _, _, frames, height, width = latent.video.shape
    pixels = (side * clock.PIXELS_PER_LATENT for side in (height, width))
    size = (clock.frames_of_latents(frames), *pixels, 3)
    images = torch.empty(size, dtype=host.result_dtype(), device=host.result_device())
    done = 0
    for piece in pieces:
        images[done : done + len(piece)] = piece
        done += len(piece)
    return images


def sound_of(models: Models, clip: LatentValue) -> Waveform | None:
    return steps.decode_sounds(models, latent_of(clip), clip.sound, progress=reporting.reporter("audio decoding"))[0]


def whole_clip(clip: LatentValue, pieces, sound: Waveform | None) -> FinishedSegment:
    """A clip as a film of its own, with the frames that repeat the one before."""
    timing = replace(clip.timing, video_overlap=0, end_offset=0).doubled(clip.rounds)
    return FinishedSegment(timing, pieces, sound)


NODES = [DecodeVideo, DecodeAudio, DecodeToFile]
