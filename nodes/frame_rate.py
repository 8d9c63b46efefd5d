"""Twice the frame rate of a finished clip."""

from dataclasses import replace

from ..ltx2.errors import RequestError
from ..ltx2.stages import steps
from ..ltx2.stages.doubling.rounds import double_rate
from ..ltx2.stages.doubling.tiles import MOST_ROUNDS
from ..ltx2.stages.request import DOUBLING, make_job
from . import host, reporting, sockets
from .models import upsampler_of
from .placement import models_of, with_temporal_upsampler
from .releases import check_same_release, context_for
from .sockets import AnyUpsampler, Context, Model, VideoVae

ROUNDS_TOOLTIP = "How often: 1 makes 48 frames per second of 24, 2 makes 96."


class DoubleRate(host.io.ComfyNode):
    """Twice the frames, between the last stage and decoding."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "DoubleRate",
            "Double LTX-2 Frame Rate",
            "denoise",
            description="Doubles the frame rate of a finished clip: a temporal upsampler, then a few steps in tiles of time that share pictures of "
            "the clip. The sound stays, and a state made of the clip is of its rate before. Experimental.",
            inputs=[
                host.field(Model, "model", "The transformer."),
                host.field(Context, "positive", "The encoded prompt."),
                host.field(sockets.Latent, "latent", "The finished clip, from Denoise or Refine."),
                host.field(
                    AnyUpsampler,
                    "upsampler",
                    "The temporal x2 latent upsampler, from Load LTX-2 Upsampler or ComfyUI's own loader.",
                ),
                host.field(VideoVae, "video_vae", "The model's video VAE."),
                host.field(io.Int, "rounds", ROUNDS_TOOLTIP, default=1, min=1, max=MOST_ROUNDS),
                host.field(
                    Context,
                    "negative",
                    "The encoded negative prompt, where a preset's settings of double ask for guidance.",
                    optional=True,
                ),
            ],
            outputs=[
                host.output(sockets.Latent, "latent", "The clip with more frames, for decoding."),
                host.output(io.Float, "fps", "Its frames per second."),
            ],
            search_aliases=["frame interpolation", "temporal upscale", "48 fps", "60 fps", "smooth", "double fps"],
        )

    @classmethod
    def execute(cls, model, positive, latent, upsampler, video_vae, rounds, negative=None):
        if latent.stage != sockets.FINISHED:
            raise RequestError(
                f"the clip is {latent.stage}, expected a finished one: connect the latent of the last stage"
            )
        if latent.rounds:
            raise RequestError("the frame rate of this clip was doubled before: choose 2 rounds in one node")
        check_same_release(model, latent.version)
        models = models_of(model, video_vae=video_vae, prompt=positive)
        models = with_temporal_upsampler(models, upsampler_of(upsampler))
        texts = {"positive": context_for(model, positive), "negative": context_for(model, negative)}
        job = make_job(models, replace(latent.request, double_rate=rounds, **texts), parts=(DOUBLING,))
        inputs = steps.Inputs(texts["positive"], texts["negative"], None, [], job.seeds)
        report = reporting.reporter("video decoding", "video encoding", "upsampling", "doubling")

        def decode(index: int):
            return steps.decode_pixels(models, latent.latent.video, latent.rng_state, progress=report)

        made = double_rate(models, job, latent.latent, decode, inputs, progress=report)
        geometry = latent.geometry.doubled(rounds)
        notes = tuple(note for note in job.notes if note not in latent.notes)
        doubled = replace(
            latent,
            latent=made.to(host.result_device()),
            geometry=geometry,
            rounds=rounds,
            notes=(*latent.notes, *notes),
        )
        return host.io.NodeOutput(doubled, float(geometry.fps), ui=host.tell(notes) if notes else None)


NODES = [DoubleRate]
