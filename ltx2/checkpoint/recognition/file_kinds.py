"""Files that are no weight files, by their first bytes: what people save or download under a model's name."""

import codecs

FIRST_BYTES = 512  # that are looked at
TEXT_SHOWN = 40  # characters

_PICKLE = "get the model as .safetensors or .gguf, since a pickle can run any program"
_ARCHIVE = "unpack it and choose the model in it"
_ANOTHER = "choose the model's file"
_AGAIN = "download it again, signed in where the server asks for that"
# What a file begins with → what it is, and what to do.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive, as PyTorch's own .pt and .ckpt files are", _PICKLE),
    (b"\x80\x02", "a Python pickle", _PICKLE),
    (b"\x80\x03", "a Python pickle", _PICKLE),
    (b"\x80\x04", "a Python pickle", _PICKLE),
    (b"\x80\x05", "a Python pickle", _PICKLE),
    (b"GGUF", "a GGUF file", "rename it to end in .gguf"),
    (b"lmgg", "a GGML file, which came before GGUF", "get the model as .gguf or .safetensors"),
    (b"fmgg", "a GGML file, which came before GGUF", "get the model as .gguf or .safetensors"),
    (b"tjgg", "a GGML file, which came before GGUF", "get the model as .gguf or .safetensors"),
    (b"\x89HDF", "an HDF5 file, as TensorFlow's .h5 files are", "get the model as .safetensors or .gguf"),
    (b"\x08\x03\x12", "an ONNX file", "get the model as .safetensors or .gguf"),
    (b"\x08\x07\x12", "an ONNX file", "get the model as .safetensors or .gguf"),
    (b"\x08\x08\x12", "an ONNX file", "get the model as .safetensors or .gguf"),
    (b"\x89PNG", "a PNG picture", _ANOTHER),
    (b"\xff\xd8\xff", "a JPEG picture", _ANOTHER),
    (b"\x1a\x45\xdf\xa3", "a video", _ANOTHER),
    (b"%PDF", "a PDF document", _ANOTHER),
    (b"\x1f\x8b", "a gzip archive", _ARCHIVE),
    (b"7z\xbc\xaf", "a 7z archive", _ARCHIVE),
    (b"Rar!", "a RAR archive", _ARCHIVE),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _ARCHIVE),
    (b"\xfd7zXZ", "an xz archive", _ARCHIVE),
    (b"<!doc", "a web page", _AGAIN),
    (b"<html", "a web page", _AGAIN),
    (
        b"version https://git-lfs",
        "a Git LFS pointer instead of the file itself",
        "fetch the file with git lfs pull, or download it from its page",
    ),
)
SIGNATURES = tuple(raw for raw, _, _ in _SIGNATURES)
_SPACE = b" \t\r\n"


def kind_of(first: bytes, size: int) -> tuple[str, str] | None:
    """What a file of ``size`` bytes is by its ``first`` bytes (FIRST_BYTES, or all there are) and what to do, when that
    is something other than safetensors.

    A safetensors file begins with a length, which may be of any bytes, those of a signature included: a brace behind a
    length that the file has room for says more than they do.
    """
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= size - 8:
        return None
    start = first.removeprefix(codecs.BOM_UTF8).lstrip(_SPACE)
    for signature, what, fix in _SIGNATURES:
        if first.startswith(signature) or (signature.startswith(b"<") and start.lower().startswith(signature)):
            return what, fix
    if first[4:8] == b"ftyp":
        return "a video", _ANOTHER
    text = _text(first)
    return None if text is None else (f'a text ("{text}")', _AGAIN)


def _text(first: bytes) -> str | None:
    """The beginning of a text in one line, or None for what is none."""
    try:
        # the last character may be cut in two
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(first)
    except UnicodeDecodeError:
        return None
    line = " ".join(text.split())
    if len(line) < 8 or not line.isprintable():
        return None
    return line if len(line) <= TEXT_SHOWN else f"{line[:TEXT_SHOWN]}…"
