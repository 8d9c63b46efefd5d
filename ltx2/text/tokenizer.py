"""Prompt text → Gemma token ids.

The rules are the same for every LTX-2 release: no chat template, BOS first, no EOS, at most 1024 tokens.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, is_out_of_memory
from .sentencepiece_proto import parse, to_tokenizer_json

MAX_TOKENS = 1024
BOS_ID = 2  # of every Gemma; used where the file does not name the piece


@dataclass(frozen=True)
class PromptTokenizer:
    """One tokenizer, whatever file it came from.

    text_ids: text → ids without BOS or EOS; text_of: ids → text; token_id: piece → id or None; size: ids are below it.
    """

    text_ids: Callable[[str], list[int]]
    text_of: Callable[[Sequence[int]], str]
    token_id: Callable[[str], int | None]
    size: int
    bos: int = BOS_ID


def prompt_ids(tokenizer: PromptTokenizer, prompt: str, max_tokens: int = MAX_TOKENS) -> list[int]:
    """Ids of one prompt: surrounding blanks dropped, BOS first, cut to ``max_tokens``; at least the BOS."""
    return [tokenizer.bos, *tokenizer.text_ids(prompt.strip())][:max_tokens]


def from_tokenizer_json(data: bytes, name: str) -> PromptTokenizer:
    """A ``tokenizer.json``, as a file's bytes or as the ``tokenizer_json`` tensor of a single-file encoder."""
    from tokenizers import Tokenizer  # comes with transformers

    try:
        tokenizer = Tokenizer.from_str(bytes(data).decode("utf-8"))
    except Exception as error:  # tokenizers raises bare Exception
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"The tokenizer in {name} cannot be read ({error}): get the text encoder again."
        ) from error
    # Post-processors differ between files (some add BOS, some do not), so special tokens are ours to add.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    bos = tokenizer.token_to_id("<bos>")
    return PromptTokenizer(
        text_ids=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        text_of=lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True),
        token_id=tokenizer.token_to_id,
        size=tokenizer.get_vocab_size(with_added_tokens=True),
        bos=BOS_ID if bos is None else bos,
    )


def from_sentencepiece(proto: bytes, name: str) -> PromptTokenizer:
    """A serialised sentencepiece model, as ``tokenizer.model`` or the ``spiece_model`` tensor.

    Read by the sentencepiece package where it is installed, else converted for ``tokenizers`` (some seconds for the
    262 000 pieces of a real one).
    """
    model = parse(bytes(proto), name)
    try:
        import sentencepiece
    except ImportError:
        return from_tokenizer_json(json.dumps(to_tokenizer_json(model, name)).encode(), name)
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(bytes(proto))
    # The package maps a piece it does not know to the unknown id, so names are looked up here.
    ids = {piece.text: index for index, piece in enumerate(model.pieces)}
    return PromptTokenizer(
        text_ids=processor.EncodeAsIds,
        text_of=lambda row: processor.DecodeIds([int(index) for index in row]),
        token_id=ids.get,
        size=len(model.pieces),
        bos=ids.get("<bos>", BOS_ID),
    )


def from_folder(folder: Path) -> PromptTokenizer:
    """The tokenizer of a Hugging Face folder: ``tokenizer.json``, else ``tokenizer.model``; also in ``tokenizer/`` in
    or beside it."""
    places = [folder, folder / "tokenizer", folder.parent / "tokenizer"]
    for file_name, read in (("tokenizer.json", from_tokenizer_json), ("tokenizer.model", from_sentencepiece)):
        for place in places:
            path = place / file_name
            if path.is_file():
                return read(path.read_bytes(), str(path))
    raise CheckpointError(
        f"{folder} has neither tokenizer.json nor tokenizer.model: copy one of them from the Gemma release into it."
    )
