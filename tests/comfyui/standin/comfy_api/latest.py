"""The node API's surface, as much of it as the pack uses."""

import inspect
import shutil
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from types import SimpleNamespace
from typing import Any


class ComfyExtension:
    async def on_load(self):
        pass


class NodeOutput:
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution

    def __getitem__(self, index):
        return self.args[index]


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False
    is_experimental: bool = False
    not_idempotent: bool = False
    search_aliases: list = field(default_factory=list)

    def validate(self):
        ids = [one.id for one in self.inputs]
        assert len(set(ids)) == len(ids), f"{self.node_id}: input ids repeat"


class ComfyNode:
    hidden = SimpleNamespace(unique_id=None, prompt=None, extra_pnginfo=None)

    @classmethod
    def GET_SCHEMA(cls):
        schema = cls.define_schema()
        schema.validate()
        names = [one.id for one in schema.inputs]
        taken = inspect.signature(cls.execute).parameters
        assert set(names) <= set(taken) or any(p.kind is p.VAR_KEYWORD for p in taken.values()), (
            cls.__name__,
            names,
            list(taken),
        )
        return schema

    @classmethod
    def EXECUTE_NORMALIZED(cls, *args, **keywords):
        result = cls.execute(*args, **keywords)
        return result if isinstance(result, NodeOutput) else NodeOutput(*(result if isinstance(result, tuple) else ()))


def _kind(io_type, widget=False):
    class Input:
        def __init__(self, id, display_name=None, optional=False, tooltip=None, default=None, options=None, **extra):
            self.id, self.optional, self.tooltip, self.default, self.options, self.extra = (
                id,
                optional,
                tooltip,
                default,
                options,
                extra,
            )
            self.io_type, self.widget, self.display_name = io_type, widget, display_name

    class Output:
        def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
            self.id, self.display_name, self.tooltip, self.io_type = id, display_name, tooltip, io_type

    return SimpleNamespace(Input=Input, Output=Output, io_type=io_type, Type=Any)


class UploadType(str, Enum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


_SOCKETS = (
    "Image",
    "Mask",
    "Latent",
    "Conditioning",
    "Sampler",
    "Sigmas",
    "Noise",
    "Guider",
    "Clip",
    "Vae",
    "Model",
    "Audio",
    "Video",
)
io = SimpleNamespace(
    ComfyNode=ComfyNode,
    NodeOutput=NodeOutput,
    Schema=Schema,
    Hidden=Hidden,
    UploadType=UploadType,
    FolderType=FolderType,
    Custom=_kind,
    AnyType=_kind("*"),
    LatentUpscaleModel=_kind("LATENT_UPSCALE_MODEL"),
    **{name: _kind(name.upper()) for name in _SOCKETS},
    **{name: _kind(name.upper(), widget=True) for name in ("Int", "Float", "String", "Boolean", "Combo")},
    NumberDisplay=SimpleNamespace(number="number", slider="slider"),
)


class _Ui:
    def __init__(self, value, **_):
        self.value = value


class PreviewText(_Ui):
    def as_dict(self):
        return {"text": (self.value,)}


class PreviewVideo(_Ui):
    def as_dict(self):
        return {"images": self.value, "animated": (True,)}


class SavedResult(dict):
    def __init__(self, filename, subfolder, type):
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class SavedImages(_Ui):
    def as_dict(self):
        return {"images": self.value}


ui = SimpleNamespace(
    PreviewText=PreviewText, PreviewVideo=PreviewVideo, SavedResult=SavedResult, SavedImages=SavedImages
)


@dataclass(frozen=True)
class VideoComponents:
    images: Any
    frame_rate: Fraction
    audio: Any = None
    metadata: Any = None


@dataclass(frozen=True)
class VideoFromComponents:
    components: VideoComponents

    def get_components(self):
        return self.components


@dataclass(frozen=True)
class VideoFromFile:
    path: Any

    def get_stream_source(self):
        return self.path

    def save_to(self, path, format, codec, metadata=None):
        shutil.copyfile(self.path, path)


InputImpl = SimpleNamespace(VideoFromComponents=VideoFromComponents, VideoFromFile=VideoFromFile)
Types = SimpleNamespace(VideoComponents=VideoComponents, VideoContainer=str, VideoCodec=str)
