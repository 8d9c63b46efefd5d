"""A VIDEO of the host as a file of the name that its user knows it by."""

from pathlib import Path

from ..ltx2 import system
from ..ltx2.errors import RequestError
from . import host

UNNAMED = "the video"  # one that other nodes made


def film_file(video, hidden) -> Path:
    """A VIDEO as an MP4 in the host's temp folder, in a folder of its own, called as the file that was given: so do
    messages call it, and states that go on from it. Raises RequestError where there is none."""
    if video is None:
        raise RequestError("video holds nothing: connect a node that gives a video")
    folder = host.save_target(host.GIVEN, kind="temp").path("")
    folder.mkdir()
    copy = folder / "film.mp4"
    host.save_video(video, copy, hidden)
    named = folder / (_own_name(video) or UNNAMED)
    try:
        system.rename(copy, named)
        return named
    except OSError:  # another file system than that of the film, which takes no such name
        return copy


def _own_name(video) -> str:
    """The name of a VIDEO's file; nothing where it has none."""
    if not isinstance(video, host.InputImpl.VideoFromFile):
        return ""  # asked for its source, it would be encoded
    source = video.get_stream_source()
    return Path(source).name if isinstance(source, (str, Path)) else ""
