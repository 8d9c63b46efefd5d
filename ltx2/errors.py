"""The few kinds of error a user meets. Every message is one sentence: what, found, expected, fix."""

LONGEST_MESSAGE = 300


def one_line(text: object) -> str:
    """A text as one line that every terminal can print, at most 300 characters: the middle of a longer one is left out,
    since what was found stands at its start and the fix at its end."""
    text = str(text)
    if len(text) > 20 * LONGEST_MESSAGE:
        text = f"{text[: 10 * LONGEST_MESSAGE]} {text[-10 * LONGEST_MESSAGE :]}"
    line = " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())
    if not line.isprintable():
        line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    if len(line) <= LONGEST_MESSAGE:
        return line
    start = LONGEST_MESSAGE * 2 // 3
    return f"{line[:start]} … {line[start + 3 - LONGEST_MESSAGE :]}"


class Ltx2Error(ValueError):
    """Base of all errors this package raises on purpose. The message is one line of at most 300 characters, whatever
    file names and values it was made from."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class CheckpointError(Ltx2Error):
    """A weight file, a LoRA or a text encoder does not fit: names the file, what was found and what to do."""


class RequestError(Ltx2Error):
    """A request cannot be carried out as asked: size, length, prompt, preset, sigma list."""


class MediaError(Ltx2Error):
    """A picture, clip or sound cannot be read or written."""


class ContinuationError(Ltx2Error):
    """A continuation state, its attachment or its blobs are damaged or do not fit."""


class BlobNotFoundError(ContinuationError, KeyError):
    """A state names a blob that the store does not hold."""

    # KeyError would print the repr of the message
    __str__ = ValueError.__str__


class BusyError(Ltx2Error):
    """Another process holds what this one needs; told by the lock itself, and handed on as it is."""


class StoryError(Ltx2Error):
    """A story script or journal is wrong; names the line."""


class MissingPackageError(Ltx2Error):
    """An optional package is absent or too old; names it and the command that installs it."""


class Ltx2Warning(UserWarning):
    """Something was adjusted or assumed, and the result is still usable."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, a device's or the machine's. Such an error is never renamed: a host makes room when it
    sees its kind."""
    # by name, so that torch need not be there
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(
        said in str(error) for said in ("out of memory", "DefaultCPUAllocator")
    )


def sentence_of(error: BaseException) -> str | None:
    """What to tell of an error that is no fault of the program – one of the package's, of the file system's or of
    memory – in one sentence; None of any other."""
    if isinstance(error, Ltx2Error):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return one_line(f"{where}{error.strerror or error}")
    if is_out_of_memory(error):
        return "the device has too little memory: make it smaller or shorter, or add --offload layers"
    return None
