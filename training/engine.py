"""The names of the engine that training builds on, in one place."""

from ltx2.config.audio import audio_vae_config, vocoder_config
from ltx2.config.transformer import connector_config, transformer_config
from ltx2.config.video_vae import video_vae_config
from ltx2.film.timeline import first_segment, next_segment
from ltx2.networks.audio.codec import decode_audio, encode_waveform
from ltx2.networks.audio.mel import log_mel
from ltx2.networks.audio.vae import AudioDecoder, AudioEncoder
from ltx2.networks.audio.vocoder import make_vocoder
from ltx2.networks.layers.adaln import sinusoid
from ltx2.networks.layers.rope import audio_positions, frequencies, rotary_table, video_positions
from ltx2.networks.transformer.connectors import Connector
from ltx2.networks.transformer.model import StreamInput, Transformer
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder
from ltx2.tiny import text as tiny_text
from ltx2.tiny.configs import audio_vae as tiny_audio_vae
from ltx2.tiny.configs import scheduler as tiny_scheduler
from ltx2.tiny.weights import bytes_tensor, shapes_of
from ltx2.tiny.write import write_safetensors
from ltx2.values import Waveform

__all__ = [
    "AudioDecoder",
    "AudioEncoder",
    "Connector",
    "StreamInput",
    "Transformer",
    "VideoDecoder",
    "VideoEncoder",
    "Waveform",
    "audio_positions",
    "audio_vae_config",
    "bytes_tensor",
    "connector_config",
    "decode_audio",
    "encode_waveform",
    "first_segment",
    "log_mel",
    "frequencies",
    "make_vocoder",
    "next_segment",
    "rotary_table",
    "shapes_of",
    "sinusoid",
    "tiny_audio_vae",
    "tiny_scheduler",
    "tiny_text",
    "transformer_config",
    "video_positions",
    "video_vae_config",
    "vocoder_config",
    "write_safetensors",
]
