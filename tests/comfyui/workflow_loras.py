# ruff: noqa: E501 - prose
"""Example workflows that the demonstration model cannot run, which have no film under their picture: with a LoRA that
looks at a reference or takes up a voice, and with a language model that writes; see ``workflow_texts``."""

from .workflow_nodes import (
    AUDIO_VAE_25,
    CHECKPOINT,
    DEV,
    DISTILLED,
    DUB,
    GEMMA,
    GEMMA_25,
    INPAINT,
    MOGE,
    SHEET,
    TRANSFORMER_25,
    UNION,
    UPSAMPLER,
    UPSAMPLER_25,
    VIDEO_VAE_25,
    VOICE,
    WRITER,
    Link,
    Node,
    Workflow,
    grouped,
    native,
    ours,
)

_WIDTH, _HEIGHT, _SECONDS, _FRAMES = 1280, 704, 4.0, 97
_GREEN = 0x66FF00  # RGB 102, 255, 0: what the LoRA fills

_ALLEY = (
    "A woman in a red raincoat walks along a narrow street of brick houses on a rainy evening, lit by warm shop windows. The camera follows "
    "her. Rain patters on the stones, her steps splash, a tram rings in the distance."
)
_ANCHOR = (
    "### Reference Sheet Description **Left (Character):** A grey cat in a blue postman's jacket and cap, seen from the front, the side and the "
    "back. **Right (Setting):** A village square with a fountain and yellow houses. ### Video Description: The cat from the sheet walks across the "
    'square from the sheet, stops at the fountain, tips its cap and says, "Post for everyone!" Water splashes, a church bell rings.'
)
_FILLED = "An empty wooden bench in a park in autumn, leaves lie on it. Wind rustles in the trees."
_SPOKEN = (
    "[VISUAL]: A woman with short grey hair in a green sweater sits at a kitchen table and looks into the camera, medium shot, soft morning light. "
    "[SPEECH]: The harbour is closed today, but the market is open. [SOUNDS]: A clock ticks, a kettle hums quietly."
)
_DUBBED = (
    'A woman with short grey hair in a green sweater sits at a kitchen table, looks into the camera and says: "Der Hafen ist heute geschlossen, aber der Markt '
    'ist offen."'
)
_IDEA = "An old lighthouse keeper climbs the stairs during a storm and lights the lamp."
_AS_LONG = (
    "The video must be at least as long as the clip, and shows at each moment what the clip follows there; in a segment that goes on from a state give the "
    "piece that begins with the first repeated frame."
)


def _with_lora(lora: str, checkpoint: str = CHECKPOINT, stages: str = "both stages", **more: str) -> tuple[Node, ...]:
    """All models on one wire, and the transformer with a LoRA on another."""
    return grouped(
        "1 Models",
        ours("load", "LoadCheckpoint", checkpoint=checkpoint, text_encoder=GEMMA, **more),
        ours("lora", "ApplyLora", model=Link("load", "model"), lora=lora, strength=1.0, stages=stages),
    )


def _clip(number: int, prompt: str, conditions: str, **more) -> tuple[Node, ...]:
    given = {"prompt": prompt, "seconds": _SECONDS, "width": _WIDTH, "height": _HEIGHT, "preset": "ltx2_3_distilled"}
    wires = {
        "models": Link("load", "models"),
        "model": Link("lora", "model"),
        "conditions": Link(conditions, "conditions"),
    }
    return grouped(f"{number} Clip", ours("one", "Generate", **wires, **{**given, **more}))


def _saved(number: int, prefix: str) -> tuple[Node, ...]:
    card = ours(
        "card",
        "SaveState",
        state=Link("one", "state"),
        filename_prefix=f"continuum/{prefix}",
        video=Link("one", "video"),
    )
    return grouped(f"{number} Film and state", card)


def _film(title: str | None = None) -> tuple[Node, ...]:
    return (
        native("film", "LoadVideo", title=title, file="film.mp4"),
        native("parts", "GetVideoComponents", video=Link("film", "VIDEO")),
    )


def _controlled(prefix: str, title: str, note: str, frames: Link, *steps: Node, film: str | None = None) -> Workflow:
    """A clip that follows a control film. frames: of it; steps: how it is made of the video that is loaded."""
    control = ours("control", "ReferenceVideo", frames=frames)
    return Workflow(
        title,
        f"{note} {_AS_LONG}",
        (
            *_with_lora(UNION),
            *grouped("2 Control film", *_film(film), *steps, control),
            *_clip(3, _ALLEY, "control", fps=Link("parts", "fps")),
            *_saved(4, prefix),
        ),
    )


LORA_WORKFLOWS = {
    "control_canny": _controlled(
        "control_canny",
        "Follow a video by its edges (canny)",
        "The clip moves as the video does, whose edges *Detect Edges (Canny)* of ComfyUI finds, and looks as the prompt says. The union control LoRA takes "
        "edges, depth and poses alike: it sees which of them it is shown.",
        Link("edges", "IMAGE"),
        native("edges", "Canny", image=Link("parts", "images"), low_threshold=0.1, high_threshold=0.3),
    ),
    "control_depth": _controlled(
        "control_depth",
        "Follow a video by its depth",
        "The clip has the depth of the video, near and far and how both move, and looks as the prompt says. Depth is found by MoGe, as in ComfyUI's own template; a "
        "ComfyUI that has no MoGe nodes yet takes a depth film that is there already: connect *Get Video Components* to *Reference Video*.",
        Link("depth", "IMAGE"),
        native("moge", "LoadMoGeModel", column=1, model_name=MOGE),
        native("geometry", "MoGeInference", column=1, moge_model=Link("moge", "MOGE_MODEL"), image=Link("parts", "images")),
        native("depth", "MoGeRender", column=1, moge_geometry=Link("geometry", "moge_geometry"), output="depth"),
    ),
    "control_pose": _controlled(
        "control_pose",
        "Follow the poses of a video",
        "People in the clip move as the drawn skeletons of a pose film do. The video that is loaded is that film: ComfyUI has no pose node that needs no "
        "further model; DWPose of *comfyui_controlnet_aux*, or *SDPose* of ComfyUI with its model, draw one from any video.",
        Link("parts", "images"),
        film="Pose film",
    ),
    "reference_sheet": Workflow(
        "People and things from a reference sheet",
        "One picture shows everything that is to appear: people from several sides, things, the place. The ingredients LoRA has them in the clip as they are on "
        "the sheet. The prompt begins with *### Reference Sheet Description* and says what is where on it. The LoRA was trained at 768×448, 121 frames and 24 "
        "frames a second; the sheet is padded with black to that shape.",
        (
            *_with_lora(SHEET),
            *grouped(
                "2 Reference sheet",
                native("sheet", "LoadImage", image="example.png"),
                native("padded", "ResizeAndPadImage", image=Link("sheet", "IMAGE"), target_width=768, target_height=448,
                       padding_color="black", interpolation="lanczos"),
                ours("control", "ReferenceVideo", frames=Link("padded", "IMAGE")),
            ),
            *_clip(3, _ANCHOR, "control", width=768, height=448, seconds=5.0),
            *_saved(4, "reference_sheet"),
        ),
    ),
    "inpaint_a_video": Workflow(
        "Fill a painted part of a video",
        "What is painted over with the mask brush on one frame (open the picture in the mask editor) is filled anew in the whole video, as the prompt says; all else "
        "stays as it is. The LoRA is shown the video with the part in green (102, 255, 0), 30 pixels wider than painted, and the result is put back inside the "
        "part alone. The sound stays. A mask that moves along, one picture a frame, goes into *Grow Mask* instead.",
        (
            *_with_lora(INPAINT),
            *grouped(
                "2 Video",
                *_film(),
                native("size", "ImageScale", image=Link("parts", "images"), upscale_method="lanczos", width=_WIDTH, height=_HEIGHT, crop="center"),
                native("piece", "ImageFromBatch", image=Link("size", "IMAGE"), batch_index=0, length=_FRAMES),
            ),
            *grouped(
                "3 What is filled",
                native("mask", "LoadImage", title="A frame, with the part painted", image="example.png"),
                native("grown", "GrowMask", mask=Link("mask", "MASK"), expand=30, tapered_corners=True),
                native("green", "EmptyImage", width=_WIDTH, height=_HEIGHT, batch_size=1, color=_GREEN),
                native("painted", "ImageCompositeMasked", destination=Link("piece", "IMAGE"), source=Link("green", "IMAGE"), x=0, y=0,
                       resize_source=False, mask=Link("grown", "MASK")),
                ours("control", "ReferenceVideo", frames=Link("painted", "IMAGE")),
            ),
            *_clip(4, _FILLED, "control", fps=Link("parts", "fps"), audio=Link("parts", "audio")),
            *grouped(
                "5 Film",
                native("whole", "ImageCompositeMasked", destination=Link("piece", "IMAGE"), source=Link("one", "images"), x=0, y=0,
                       resize_source=False, mask=Link("grown", "MASK")),
                native("video", "CreateVideo", images=Link("whole", "IMAGE"), audio=Link("one", "audio"), fps=Link("one", "fps")),
                native("save", "SaveVideo", video=Link("video", "VIDEO"), filename_prefix="continuum/inpainted", format="auto", codec="auto"),
            ),
        ),
    ),
    "reference_voice": Workflow(
        "Speak with the voice of a recording",
        "About five seconds of somebody's speech, without music: the person in the clip speaks with that voice, and says what stands behind *[SPEECH]:* in the prompt. "
        "Runs as ComfyUI's own template: a dev model with its distilled LoRA at half strength in both stages, and the ID-LoRA in the first.",
        (
            *_with_lora(VOICE, DEV, "first stage", distilled_lora=DISTILLED, upsampler=UPSAMPLER),
            *grouped(
                "2 Voice",
                native("track", "LoadAudio", audio="voice.wav"),
                ours("control", "ReferenceVoice", voice=Link("track", "AUDIO"), identity=3.0),
            ),
            *_clip(3, _SPOKEN, "control", preset="ltx2_3_template", seconds=5.0),
            *_saved(4, "reference_voice"),
        ),
    ),
    "enhanced_prompt": Workflow(
        "A fuller prompt by a second Gemma",
        "The Gemma of LTX-2.5 reads prompts only: ComfyUI's own *Generate LTX2 Prompt* writes a fuller one with a small second Gemma, and **Generate** makes that. The "
        "same words give the same prompt; turn *sampling mode* on for others. With LTX-2 and 2.3 no second model is needed: turn on *enhance* of **Generate**.",
        (
            *grouped(
                "1 Models",
                ours("load", "LoadSplitFiles", transformer=TRANSFORMER_25, video_vae=VIDEO_VAE_25, audio_vae=AUDIO_VAE_25, text_encoder=GEMMA_25,
                     upsampler=UPSAMPLER_25),
            ),
            *grouped(
                "2 Prompt",
                native("writer", "CLIPLoader", clip_name=WRITER, type="ltxv"),
                native("text", "TextGenerateLTX2Prompt", clip=Link("writer", "CLIP"), prompt=_IDEA, max_length=600, sampling_mode="off"),
            ),
            *grouped(
                "3 Clip",
                ours("one", "Generate", models=Link("load", "models"), prompt=Link("text", "generated_text"), seconds=_SECONDS, width=_WIDTH,
                     height=_HEIGHT),
            ),
            *_saved(4, "enhanced"),
        ),
    ),
    "dub_a_video": Workflow(
        "Dub a video in its own voice",
        "The same person says other words, such as in another language: with the same voice, and lips that move with them. The prompt says what is seen and has "
        "the new words in their own script, about as many as can be said in that time. One speaker, 1 to 20 seconds. All frames and the sound are new.",
        (
            *grouped(
                "1 Models",
                ours("load", "LoadCheckpoint", checkpoint=CHECKPOINT),
                ours("lora", "ApplyLora", model=Link("load", "model"), lora=DUB, strength=1.0),
                ours("gemma", "LoadTextEncoder", text_encoder=GEMMA, model=Link("load", "model")),
                ours("upscaler", "LoadUpsampler", upsampler=UPSAMPLER),
            ),
            *grouped("2 Video", native("film", "LoadVideo", file="speech.mp4")),
            *grouped(
                "3 New words",
                ours("again", "Dub", model=Link("lora", "model"), text_encoder=Link("gemma", "text_encoder"),
                     video_vae=Link("load", "video_vae"), audio_vae=Link("load", "audio_vae"), upsampler=Link("upscaler", "upsampler"),
                     video=Link("film", "VIDEO"), prompt=_DUBBED, preset="ltx2_quality"),
            ),
            *grouped(
                "4 Film",
                native("save", "SaveVideo", video=Link("again", "video"), filename_prefix="continuum/dubbed", format="auto", codec="auto"),
            ),
        ),
    ),
}  # fmt: skip
