"""The story script: a readable file with one prompt a segment. Errors name line and column.

    fps: 24                     # also 23.976 or 24000/1001
    size: 768x512
    seed: 10                    # segment i uses seed + i unless it has its own
    preset: ltx2_fast
    negative: "blurry, watermark"
    overlap: {video: 9, audio: 49}       # in frames; what each segment repeats of the one before
    drift_correction: {colour: 0.5, contrast: 0.5, loudness: 0.5}    # 0…1; off by default
    noise: {video: 0.0, audio: 0.0}      # on what a segment starts from; off by default
    enhance: true               # a language model writes the prompts out, each with the ones before in mind
    override: {denoise.num_inference_steps: 6}
    # start: holiday.mp4        a film that the story goes on from; or {file: holiday.mp4, context: 17}
    audio: song.wav             # your own track over the whole film; or {file: song.wav, start: 12.5}
    lora: detail.safetensors:0.8@2       # for the whole film, here in the second stage alone; or a list
    defaults: {seconds: 5}      # for every segment that does not say otherwise
    segments:
      - A harbour at dawn, gulls call.       # a prompt alone, or
      - prompt: The camera rises over the roofs, bells ring.
        seconds: 4              # of the clip the model makes, the repeated part included; or frames: 97
        seed: 77
        strength: 0.9           # how firmly it starts from the segment before; 1 = exactly
        takes: 3                # made with three seeds; take: 2 keeps the second
      - prompt: A street full of people.
        cut: true               # a new scene: starts from nothing
        reference: depth.mp4    # what an IC-LoRA follows; for the whole film it stands above segments
        voice: maria.wav        # speech that an ID-LoRA takes the voice from; for the whole film above segments
        image: street.jpg       # or {file: street.jpg, frame: last, strength: 0.8}; paths start at the script's folder

Every entry is described in docs/story.md. Plain lines of prose make a script too: one segment a line, or a paragraph.
"""

from .audio import StoryAudio
from .reading import SegmentScript, StoryImage, StoryScript, parse_script, read_script
from .references import StoryReference
from .start import StoryStart
from .voices import StoryVoice

__all__ = [
    "SegmentScript",
    "StoryAudio",
    "StoryImage",
    "StoryReference",
    "StoryScript",
    "StoryStart",
    "StoryVoice",
    "parse_script",
    "read_script",
]
