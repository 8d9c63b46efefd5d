"""A sentencepiece model read without the sentencepiece package: protobuf → the JSON of Hugging Face ``tokenizers``.

Gemma's model is byte-pair encoding with byte fallback and no dummy prefix; pieces carry a score that orders the merges.
Checked against the sentencepiece package.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import CheckpointError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BPE = 2


@dataclass(frozen=True)
class VocabularyPiece:
    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """The parts of the protobuf that tokenising needs; a piece's id is its index."""

    pieces: tuple[VocabularyPiece, ...]
    model_type: int
    add_dummy_prefix: bool


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of one protobuf message; values of wire type 2 and 5 as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
        else:
            if wire == 2:
                length, at = _varint(data, at)
            else:
                length = {1: 8, 5: 4}[wire]
            value = data[at : at + length]
            if len(value) != length:
                raise IndexError("message ends early")
            at += length
        yield number, value


def parse(proto: bytes, name: str = "spiece_model") -> SentencePieceModel:
    """Read a serialised ``sentencepiece.ModelProto``.

    Errors: CheckpointError when the bytes are not one.
    """
    pieces, model_type, add_dummy_prefix = [], 1, True
    try:
        for number, value in _fields(proto):
            if number == 1:
                piece = dict(_fields(value))
                pieces.append(
                    VocabularyPiece(
                        piece[1].decode("utf-8"),
                        struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0],
                        piece.get(3, NORMAL),
                    )
                )
            elif number == 2:
                model_type = dict(_fields(value)).get(3, model_type)
            elif number == 3:
                add_dummy_prefix = bool(dict(_fields(value)).get(3, 1))
    except (IndexError, KeyError, AttributeError, TypeError, UnicodeDecodeError, struct.error) as error:
        raise CheckpointError(
            f"The sentencepiece model in {name} is damaged ({error or type(error).__name__}): get the text encoder "
            "file again."
        ) from error
    if not pieces:
        raise CheckpointError(f"The sentencepiece model in {name} has no pieces: get the text encoder file again.")
    return SentencePieceModel(tuple(pieces), model_type, add_dummy_prefix)


def to_tokenizer_json(model: SentencePieceModel, name: str = "spiece_model") -> dict:
    """The same tokenizer in the ``tokenizers`` format.

    Two pieces merge when their concatenation is a piece; the higher the score of the result, the earlier.
    Errors: CheckpointError for a unigram model or one with a dummy prefix (no Gemma has either).
    """
    if model.model_type != BPE or model.add_dummy_prefix:
        raise CheckpointError(
            f"The sentencepiece model in {name} is not a Gemma byte-pair model and cannot be converted: "
            "install the sentencepiece package (pip install sentencepiece)."
        )
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    mergeable = {piece.text for piece in model.pieces if piece.kind in (NORMAL, USER_DEFINED)}
    merges = []
    for piece in sorted((p for p in model.pieces if p.kind == NORMAL), key=lambda p: -p.score):
        text = piece.text
        merges += [
            [text[:cut], text[cut:]]
            for cut in range(1, len(text))
            if text[:cut] in mergeable and text[cut:] in mergeable
        ]
    unknown = next((piece.text for piece in model.pieces if piece.kind == UNKNOWN), None)
    # Pieces the user defined match as a whole, also inside words; normalised, because "▁▁" stands for two spaces.
    added = [
        {
            "id": index,
            "content": piece.text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": True,
            "special": False,
        }
        for index, piece in enumerate(model.pieces)
        if piece.kind == USER_DEFINED
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
