"""Pictures, clips and sound in and out of files."""

from ..resampling import mix_to_stereo
from .found import FilmExtension, FoundFilm, read_found_film
from .frames import uint8_frames
from .images import cover_geometry, h264_round_trip, open_image, prepare_clip, prepare_image
from .sound import write_wav
from .sound_reader import iterate_sound, read_sound
from .video import VideoWriter, write_png_sequence, write_video
from .video_reader import Clip, VideoInfo, iterate_frames, read_video, video_info

__all__ = [
    "Clip",
    "FilmExtension",
    "FoundFilm",
    "VideoInfo",
    "VideoWriter",
    "cover_geometry",
    "h264_round_trip",
    "iterate_frames",
    "iterate_sound",
    "mix_to_stereo",
    "open_image",
    "prepare_clip",
    "prepare_image",
    "read_found_film",
    "read_sound",
    "read_video",
    "uint8_frames",
    "video_info",
    "write_png_sequence",
    "write_video",
    "write_wav",
]
