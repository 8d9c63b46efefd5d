# ruff: noqa: E501 - prose
"""The example workflows in short: nodes with their settings and links, and what their notes say.

``make_workflows`` lays them out for the page and writes the API form.
"""

from dataclasses import replace

from .workflow_loras import LORA_WORKFLOWS
from .workflow_nodes import (
    CHECKPOINT,
    GEMMA,
    MODELS,
    OURS,
    TEMPORAL_UPSAMPLER,
    UPSAMPLER,
    Link,
    Node,
    Workflow,
    grouped,
    native,
    ours,
)

__all__ = ["MODELS", "NEGATIVE", "OURS", "WORKFLOWS", "Link", "Node", "Workflow"]
NEGATIVE = "Negative prompt"  # a title

HARBOUR = (
    "A small fishing harbour at dawn in soft fog. The camera glides slowly past wooden boats that rock at their moorings. An old man in a "
    'blue jacket coils a rope, looks up and says, "It will be a fine day." Gulls call, water laps against the hulls, a bell rings far away.'
)
ROOFS = (
    "The camera rises from the harbour over red tiled roofs as the sun breaks through the fog. Smoke drifts from a chimney. The bell rings "
    "louder, pigeons take off with clapping wings, and a gentle breeze is heard."
)
SQUARE = (
    "The camera comes down to a market square that fills with people. A brass band begins to play a bright march, vendors call out, and a "
    "girl in a yellow coat laughs and claps to the music."
)
_WIDTH, _HEIGHT, _SECONDS = 1280, 704, 5.0


def _loaders() -> tuple[Node, ...]:
    """Models one by one, for nodes that take them so."""
    return grouped(
        "1 Models",
        ours("load", "LoadCheckpoint", checkpoint=CHECKPOINT),
        ours("gemma", "LoadTextEncoder", text_encoder=GEMMA, model=Link("load", "model")),
        ours("upscaler", "LoadUpsampler", upsampler=UPSAMPLER),
    )


def _stages(prompt: str) -> tuple[Node, ...]:
    """From the prompt to a finished latent in two stages."""
    return (
        *grouped(
            "2 Prompt and clip",
            ours("text", "EncodePrompt", text_encoder=Link("gemma", "text_encoder"), prompt=prompt),
            ours("clip", "PrepareLatent", width=_WIDTH, height=_HEIGHT, length=_SECONDS),
        ),
        *grouped(
            "3 First stage",
            ours("preset", "Preset", preset="ltx2_quality"),
            ours("denoise", "Denoise", model=Link("load", "model"), positive=Link("text", "positive"), latent=Link("clip", "latent"),
                 preset=Link("preset", "preset")),
        ),
        *grouped(
            "4 Second stage",
            ours("upsample", "Upsample", latent=Link("denoise", "latent"), upsampler=Link("upscaler", "upsampler"),
                 video_vae=Link("load", "video_vae")),
            ours("refine", "Refine", model=Link("load", "model"), positive=Link("text", "positive"), latent=Link("upsample", "latent")),
        ),
    )  # fmt: skip


def _to_file(prefix: str) -> Node:
    return ours(
        "film",
        "DecodeToFile",
        latent=Link("refine", "latent"),
        video_vae=Link("load", "video_vae"),
        audio_vae=Link("load", "audio_vae"),
        filename_prefix=prefix,
    )


def _models(checkpoint: str = CHECKPOINT, text_encoder: str = GEMMA, **more: str) -> tuple[Node, ...]:
    """All models, on one wire."""
    return grouped("1 Models", ours("load", "LoadCheckpoint", checkpoint=checkpoint, text_encoder=text_encoder, **more))


_WHOLE = _models(upsampler=UPSAMPLER)


def _segment(name: str, prompt: str, before: str | None = None, **more) -> Node:
    """A segment; one that goes on from another has that one's size."""
    size = {"width": _WIDTH, "height": _HEIGHT}
    state = {"state": Link(before, "state"), "width": 0, "height": 0} if before else {}
    given = {"prompt": prompt, "seconds": _SECONDS, **size, "preset": "ltx2_quality", **state, **more}
    return ours(name, "Generate", models=Link("load", "models"), **given)


def _saved(state: Link, video: Link, prefix: str) -> Node:
    """A film and the state after it, under one number."""
    return ours("card", "SaveState", state=state, filename_prefix=prefix, video=video)


def _joined(number: int, prefix: str) -> tuple[Node, ...]:
    """Three segments as one film."""
    parts = {f"segment_{i}": Link(name, "segment") for i, name in enumerate(("one", "two", "three"), 1)}
    join = ours("join", "JoinSegments", **parts)
    return grouped(f"{number} Film", join, _saved(Link("three", "state"), Link("join", "video"), prefix))


def _three(*prompts: str, first: int = 2, **more) -> tuple[Node, ...]:
    names = ("one", "two", "three")
    titles = [f"{number} {name} segment" for number, name in enumerate(("First", "Second", "Third"), first)]
    return tuple(
        node
        for name, title, prompt, before in zip(names, titles, prompts, (None, *names))
        for node in grouped(title, replace(_segment(name, prompt, before, **more), title=title[2:]))
    )


SCRIPT = f"""fps: 24
size: {_WIDTH}x{_HEIGHT}
seed: 10
preset: ltx2_quality
defaults: {{seconds: 5}}
segments:
  - prompt: >-
      {HARBOUR}
  - prompt: >-
      {ROOFS}
  - prompt: >-
      {SQUARE}
"""


WORKFLOWS = {
    "first_steps": Workflow(
        "First steps, without a download",
        "Runs as it is, in seconds, on any machine: **mini** is a small trained model that comes with the pack. It knows a ball, a box or a "
        "star in six colours, by day, at sunset, at night or at sea, that rolls, jumps, circles or rests. Nothing but the first prompt says what "
        "is seen and where: the state does. Listen too: the tone belongs to the colour, and a blip is heard at the walls. With a released model "
        "the nodes are the same; see *three_segment_film*.",
        (
            *_models("mini", "mini"),
            *_three(
                "A yellow star rolls from side to side at sunset.", "It jumps up and down.", "The star, now blue, circles around.",
                seconds=2.0, width=128, height=96, preset="by the checkpoint's name",
            ),
            *_joined(5, "continuum/first_steps"),
        ),
    ),
    "text_to_video_two_stages": Workflow(
        "Text to video with sound, two stages",
        "Picture and sound from a prompt: denoise at half size, upsample, refine at full size, then decode straight into an MP4 in "
        "**output/continuum**. Lengths are in seconds; nothing needs to be calculated.",
        (*_loaders(), *_stages(HARBOUR), *grouped("5 Film", _to_file("continuum/text_to_video"))),
    ),
    "double_frame_rate": Workflow(
        "Twice the frame rate",
        "A clip at 24 frames per second becomes one at 48: the temporal upsampler puts a frame between any two, and four steps in tiles of time "
        "make it a film again. Sound, and a state made of the clip, stay as they were. *rounds* 2 makes 96. Experimental. *Generate LTX-2 Segment* "
        "has the same as *double_rate*, a script of *LTX-2 Story* too.",
        (
            *_loaders(),
            ours("more", "LoadUpsampler", title="Temporal upsampler", upsampler=TEMPORAL_UPSAMPLER),
            *_stages(HARBOUR),
            ours("double", "DoubleRate", model=Link("load", "model"), positive=Link("text", "positive"), latent=Link("refine", "latent"),
                 upsampler=Link("more", "upsampler"), video_vae=Link("load", "video_vae")),
            replace(_to_file("continuum/double_frame_rate"), inputs={
                **_to_file("continuum/double_frame_rate").inputs, "latent": Link("double", "latent")}),
        ),
    ),
    "image_to_video": Workflow(
        "Image to video with sound",
        "The clip starts from a picture. At its end a PNG card is saved in **output/continuum**: open *continue_from_state* and choose it to go on.",
        (
            *_WHOLE,
            *grouped("2 Picture", native("picture", "LoadImage", image="example.png")),
            *grouped("3 Clip", _segment("one", HARBOUR, first_image=Link("picture", "IMAGE"))),
            *grouped("4 Film and state", _saved(Link("one", "state"), Link("one", "video"), "continuum/image_to_video")),
        ),
    ),
    "keyframes": Workflow(
        "Keyframes",
        "Pictures at several places of the clip: the first frame, the middle and the last. Frame numbers are counted from 0; at 24 frames per "
        "second 5 seconds are frames 0 to 120.",
        (
            *_WHOLE,
            *grouped(
                "2 Pictures",
                native("first", "LoadImage", title="First picture", image="first.png"),
                native("last", "LoadImage", title="Last picture", image="last.png"),
            ),
            *grouped(
                "3 In between",
                native("second", "LoadImage", title="Picture in between", image="second.png"),
                ours("in_between", "AddImage", title="At frame 56", image=Link("second", "IMAGE"), frame=56, strength=0.8),
            ),
            *grouped(
                "4 Clip",
                _segment("one", HARBOUR, first_image=Link("first", "IMAGE"), last_image=Link("last", "IMAGE"),
                         conditions=Link("in_between", "conditions")),
            ),
            *grouped("5 Film and state", _saved(Link("one", "state"), Link("one", "video"), "continuum/keyframes")),
        ),
    ),
    "continue_from_state": Workflow(
        "Continue from a saved state",
        "Goes on, picture and sound, from a state that another run saved: a PNG card, a safetensors file or a folder. Upload it, or choose one "
        "that is in the output folder. The file has what is new alone, so it follows the one before without repeating its end. The new state is "
        "saved again: the film can go on for ever.",
        (
            *_WHOLE,
            *grouped("2 What was before", ours("before", "LoadState", file="continuum_state.png")),
            *grouped("3 Next segment", _segment("next", ROOFS, "before")),
            *grouped("4 What is new, and its state", _saved(Link("next", "state"), Link("next", "segment"), "continuum/continued")),
        ),
    ),
    "yesterdays_film": Workflow(
        "Yesterday's film and today's",
        "Choose the card that yesterday's run saved beside its film: the state in it knows which film that is. Today's segment goes on from it and "
        "comes behind it; yesterday's part stays bit for bit as it is. Film and state are saved together again, for tomorrow.",
        (
            *_WHOLE,
            *grouped("2 Yesterday", ours("before", "LoadState", file="continuum_state.png")),
            *grouped("3 Today", _segment("next", ROOFS, "before")),
            *grouped(
                "4 Film so far",
                ours("join", "JoinSegments", segment_1=Link("next", "segment"), state=Link("before", "state")),
                _saved(Link("next", "state"), Link("join", "video"), "continuum/film"),
            ),
        ),
    ),
    "batch_of_takes": Workflow(
        "A batch of takes",
        "The same segment as often as you like, each time with the next seed: set the number beside *Run* to ten for ten takes. Each is saved as a "
        "film with its state, its seed in the name. Look at them in **output/continuum/takes**, and open *yesterdays_film* or *continue_from_state* "
        "with the card of the one you like: *Load Continuation State* lists the newest first.",
        (
            *_WHOLE,
            *grouped("2 What was before", ours("before", "LoadState", file="continuum_state.png")),
            *grouped("3 Takes", replace(_segment("next", ROOFS, "before"), title="Take", control="increment")),
            *grouped("4 Each with its state", _saved(Link("next", "state"), Link("next", "segment"), "continuum/takes/seed_%Take.seed%")),
        ),
    ),
    "three_segment_film": Workflow(
        "Film of three segments with sound",
        "Three segments, each going on from the one before, joined to one film with one gap-free sound track. The report says how well each "
        "seam joins; the state of the last segment is saved, so that the film can go on later.",
        (*_WHOLE, *_three(HARBOUR, ROOFS, SQUARE), *_joined(5, "continuum/film")),
    ),
    "story": Workflow(
        "A story in one node",
        "A script with one prompt a segment. Finished segments are kept in **output/continuum/story**: a run that was stopped goes on where it "
        "was, and a changed prompt makes anew only its segment and what follows from it. Choose another folder for another story.",
        (*_WHOLE, *grouped("2 Story", ours("story", "Story", models=Link("load", "models"), script=SCRIPT))),
    ),
    "hold_look": Workflow(
        "A story that keeps its look",
        "Over many segments colours and contrast drift. *Hold Look* brings what each segment starts from half of the way back to how its scene "
        "began; a scene that begins with *cut* has a look of its own.",
        (
            *_WHOLE,
            *grouped("2 Against drift", ours("look", "HoldLook")),
            *grouped(
                "3 Story",
                ours(
                    "story",
                    "Story",
                    models=Link("load", "models"),
                    script=SCRIPT,
                    folder="continuum/hold_look",
                    drift=Link("look", "drift"),
                ),
            ),
        ),
    ),
    "own_audio": Workflow(
        "Own audio",
        "The picture is made to go with a sound track of your own: speech, music, noises. The track is heard as it is, cut or padded to the clip.",
        (
            *_WHOLE,
            *grouped("2 Own sound", native("track", "LoadAudio", audio="song.wav")),
            *grouped("3 Clip", _segment("one", SQUARE, audio=Link("track", "AUDIO"))),
            *grouped("4 Film and state", _saved(Link("one", "state"), Link("one", "video"), "continuum/own_audio")),
        ),
    ),
    "one_track_film": Workflow(
        "One track over a whole film",
        "A song, a speech or any other track of your own runs over three segments. Connect it to *audio* of each: every segment hears its piece of it on "
        "the film's clock, the picture goes with it, and the film has the track to the sample. *audio start* says where in it the film begins.",
        (
            *_WHOLE,
            *grouped("2 Track", native("track", "LoadAudio", audio="track.wav")),
            *_three(HARBOUR, ROOFS, SQUARE, first=3, audio=Link("track", "AUDIO")),
            *_joined(6, "continuum/one_track"),
        ),
    ),
    "negative_prompt": Workflow(
        "A negative prompt on a distilled model",
        "Distilled models run without guidance, and a negative prompt alone does nothing there. *nag* of *LTX-2 Preset* makes it count within the text "
        "attention, without a further pass: 11 is usual, 0 is off.",
        (
            *_WHOLE,
            *grouped("2 Settings", ours("preset", "Preset", preset="ltx2_quality", nag=11.0)),
            *grouped(
                "3 Clip",
                _segment("one", HARBOUR, settings=Link("preset", "preset"), negative_prompt="people, text, watermark, music"),
            ),
            *grouped("4 Film and state", _saved(Link("one", "state"), Link("one", "video"), "continuum/negative_prompt")),
        ),
    ),
    "extend_a_video": Workflow(
        "Extend a video",
        "Any video, whatever it was made with, goes on with picture and sound. The video itself stays as it is; the new part comes behind it. "
        "Its *state* goes into *Generate LTX-2 Segment* or *Save Continuation State* for more.",
        (
            *_WHOLE,
            *grouped("2 Video", native("film", "LoadVideo", file="film.mp4")),
            *grouped("3 What comes next", ours("longer", "ExtendVideo", models=Link("load", "models"), video=Link("film", "VIDEO"), prompt=SQUARE, preset="ltx2_quality")),
            *grouped("4 Longer video", native("save", "SaveVideo", video=Link("longer", "video"), filename_prefix="continuum/extended", format="auto", codec="auto")),
        ),
    ),
    "retake_a_video": Workflow(
        "Retake a part of a video",
        "A part of any video is made anew, from *start* to *end* in seconds, and fits what is before and after it; everything else stays as it is. "
        "*what* makes picture or sound alone anew, to go with the other. For a part of the picture connect a *mask*: white is made anew. Frames "
        "and a sound go into *images* and *audio* instead of a video.",
        (
            *_WHOLE,
            *grouped("2 Video", native("film", "LoadVideo", file="take.mp4")),
            *grouped("3 New part", ours("again", "Retake", models=Link("load", "models"), video=Link("film", "VIDEO"), prompt=SQUARE, preset="ltx2_quality", start=2.0, end=3.5)),
            *grouped("4 Mended video", native("save", "SaveVideo", video=Link("again", "video"), filename_prefix="continuum/retake", format="auto", codec="auto")),
        ),
    ),
    "sound_for_a_film": Workflow(
        "Sound for a film",
        "A film gets a sound that goes with its picture, which stays as it is; what sound it had is left out. The prompt says what is heard. "
        "Any length: long films are heard in windows that overlap.",
        (
            *_models(),
            *grouped("2 Film", native("film", "LoadVideo", file="film.mp4")),
            *grouped("3 Sound", ours("sound", "GenerateSound", models=Link("load", "models"), video=Link("film", "VIDEO"), prompt=SQUARE,
                 preset="ltx2_sound_fast")),
            *grouped("4 Film with its sound", native("save", "SaveVideo", video=Link("sound", "video"), filename_prefix="continuum/sound", format="auto", codec="auto")),
        ),
    ),
    "native_continuation": Workflow(
        "ComfyUI's own LTX-2 nodes in two stages, continued",
        "The stock two-stage LTX-2 graph with four nodes added. *Load Continuation State* holds what the clip before left; one *Continuation → "
        "AV Latent* stands right before each sampler, with the latent and the model going through it; *AV Latent → Continuation* saves the state "
        "for the next run and gives the new frames and their sound, without what repeats the clip before. To start a film, bypass the first three.",
        (
            *grouped(
                "1 Models",
                native("load", "CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
                native("audio_vae", "LTXVAudioVAELoader", ckpt_name=CHECKPOINT),
                native("gemma", "LTXAVTextEncoderLoader", text_encoder=GEMMA, ckpt_name=CHECKPOINT, device="default"),
                native("upscaler", "LatentUpscaleModelLoader", model_name=UPSAMPLER),
            ),
            *grouped(
                "2 Prompt",
                native("positive", "CLIPTextEncode", title="Prompt", clip=Link("gemma", "CLIP"), text=ROOFS),
                native("negative", "CLIPTextEncode", title=NEGATIVE, clip=Link("gemma", "CLIP"), text="blurry, watermark, subtitles"),
                native("rate", "LTXVConditioning", positive=Link("positive", "CONDITIONING"), negative=Link("negative", "CONDITIONING"), frame_rate=24.0),
            ),
            *grouped(
                "3 Size and length",
                native("picture", "EmptyLTXVLatentVideo", width=_WIDTH // 2, height=_HEIGHT // 2, length=121),
                native("sound", "LTXVEmptyLatentAudio", audio_vae=Link("audio_vae", "Audio VAE"), frames_number=121, frame_rate=24),
                native("empty", "LTXVConcatAVLatent", video_latent=Link("picture", "LATENT"), audio_latent=Link("sound", "Latent")),
            ),
            *grouped("4 What was before", ours("before", "LoadState", file="continuum_state.png")),
            *grouped(
                "5 First stage",
                ours("start", "StateToAVLatent", title="Continuation → AV Latent, first stage", state=Link("before", "state"),
                     vae=Link("load", "VAE"), model=Link("load", "MODEL"), latent=Link("empty", "latent")),
                native("sigmas", "ManualSigmas", sigmas="1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0"),
                native("noise", "RandomNoise", noise_seed=42),
                native("guider", "CFGGuider", column=1, model=Link("start", "model"), positive=Link("rate", "positive"),
                       negative=Link("rate", "negative"), cfg=1.0),
                native("sampler", "KSamplerSelect", column=1, sampler_name="euler"),
                native("sample", "SamplerCustomAdvanced", column=1, title="First stage", noise=Link("noise", "NOISE"), guider=Link("guider", "GUIDER"),
                       sampler=Link("sampler", "SAMPLER"), sigmas=Link("sigmas", "SIGMAS"), latent_image=Link("start", "latent")),
            ),
            *grouped(
                "6 Twice the size",
                native("half", "LTXVSeparateAVLatent", av_latent=Link("sample", "output")),
                native("upsample", "LTXVLatentUpsampler", samples=Link("half", "video_latent"),
                       upscale_model=Link("upscaler", "LATENT_UPSCALE_MODEL"), vae=Link("load", "VAE")),
                native("larger", "LTXVConcatAVLatent", video_latent=Link("upsample", "LATENT"), audio_latent=Link("half", "audio_latent")),
            ),
            *grouped(
                "7 Second stage",
                ours("again", "StateToAVLatent", title="Continuation → AV Latent, second stage", state=Link("before", "state"),
                     vae=Link("load", "VAE"), model=Link("load", "MODEL"), latent=Link("larger", "latent")),
                native("refine_sigmas", "ManualSigmas", sigmas="0.85, 0.725, 0.4219, 0.0"),
                native("refine_noise", "RandomNoise", noise_seed=43),
                native("refine_guider", "CFGGuider", column=1, model=Link("again", "model"), positive=Link("rate", "positive"),
                       negative=Link("rate", "negative"), cfg=1.0),
                native("refine", "SamplerCustomAdvanced", column=1, title="Second stage", noise=Link("refine_noise", "NOISE"),
                       guider=Link("refine_guider", "GUIDER"), sampler=Link("sampler", "SAMPLER"), sigmas=Link("refine_sigmas", "SIGMAS"),
                       latent_image=Link("again", "latent")),
            ),
            *grouped(
                "8 Decoding",
                native("apart", "LTXVSeparateAVLatent", av_latent=Link("refine", "output")),
                native("frames", "VAEDecodeTiled", samples=Link("apart", "video_latent"), vae=Link("load", "VAE"), tile_size=512, overlap=64,
                       temporal_size=64, temporal_overlap=8),
                native("track", "LTXVAudioVAEDecode", samples=Link("apart", "audio_latent"), audio_vae=Link("audio_vae", "Audio VAE")),
            ),
            *grouped(
                "9 State and what is new",
                ours("after", "AVLatentToState", latent=Link("refine", "output"), images=Link("frames", "IMAGE"), audio=Link("track", "Audio"),
                     state=Link("before", "state"), fps=24.0, filename_prefix="continuum/state"),
                native("video", "CreateVideo", column=1, images=Link("after", "new_images"), audio=Link("after", "new_audio"), fps=24.0),
                native("save", "SaveVideo", column=1, video=Link("video", "VIDEO"), filename_prefix="continuum/native", format="auto", codec="auto"),
            ),
        ),
    ),
    **LORA_WORKFLOWS,
}  # fmt: skip
