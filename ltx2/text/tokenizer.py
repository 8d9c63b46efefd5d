"""Prompt text → Gemma token ids.

The rules are the same for every LTX-2 release: no chat template, BOS first, no EOS, at most 1024 tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.recognition.file_kinds import FIRST_BYTES, kind_of
from ..errors import CheckpointError, MissingPackageError, is_out_of_memory

MAX_TOKENS = 1024
_SHOWN_TOKENS = 12  # of a prompt that is cut
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


def cut_note(tokenizer: PromptTokenizer, prompt: str, max_tokens: int = MAX_TOKENS) -> str | None:
    """What to tell of a prompt that is longer than the models read: how long it is, and the last words that count."""
    ids = [tokenizer.bos, *tokenizer.text_ids(prompt.strip())]
    if len(ids) <= max_tokens:
        return None
    words = " ".join(tokenizer.text_of(ids[max_tokens - _SHOWN_TOKENS : max_tokens]).split())
    return (
        f"the prompt has {len(ids):,} tokens, the last {len(ids) - max_tokens:,} are not read: what counts ends with "
        f'"…{words}"'
    )


def from_tokenizer_json(data: bytes, name: str) -> PromptTokenizer:
    """A ``tokenizer.json``, as a file's bytes or as the ``tokenizer_json`` tensor of a single-file encoder."""
    from tokenizers import Tokenizer  # comes with transformers

    try:
        tokenizer = Tokenizer.from_str(bytes(data).decode("utf-8"))
    except Exception as error:  # tokenizers raises bare Exception
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"the tokenizer in {name} cannot be read ({error}): get the text encoder again"
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

    Raises CheckpointError for damaged bytes, MissingPackageError where sentencepiece is not installed.
    """
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise MissingPackageError(
            f"the tokenizer in {name} needs the sentencepiece package: run pip install sentencepiece"
        ) from error
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(bytes(proto))
        size = processor.GetPieceSize()
    except Exception as error:  # sentencepiece raises RuntimeError, whose text names its own source files
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"the sentencepiece model in {name} is damaged: get the text encoder again") from error
    if not size:
        raise CheckpointError(f"the sentencepiece model in {name} has no pieces: get the text encoder again")

    def token_id(piece: str) -> int | None:
        # the package gives a piece that it does not know the id of the unknown one
        index = processor.PieceToId(piece)
        return index if processor.IdToPiece(index) == piece else None

    bos = token_id("<bos>")
    return PromptTokenizer(
        text_ids=processor.EncodeAsIds,
        text_of=lambda row: processor.DecodeIds([int(index) for index in row]),
        token_id=token_id,
        size=size,
        bos=BOS_ID if bos is None else bos,
    )


def from_file(path: Path) -> PromptTokenizer:
    """A tokenizer's file: ``tokenizer.json``, or a sentencepiece model. Raises CheckpointError for one that cannot be
    read, and as :func:`from_tokenizer_json` and :func:`from_sentencepiece`."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"the tokenizer {path} cannot be opened ({reason}): check the path") from error
    as_json = path.suffix.lower() == ".json"
    other = None if as_json and data.lstrip()[:1] == b"{" else kind_of(data[:FIRST_BYTES], len(data))
    if other is not None or not data:
        what, fix = other or ("empty", "get it again from the Gemma release")
        raise CheckpointError(f"the tokenizer {path} is {what}, expected the tokenizer itself: {fix}")
    return (from_tokenizer_json if as_json else from_sentencepiece)(data, str(path))


def from_folder(folder: Path, *others: Path) -> PromptTokenizer:
    """The tokenizer of a Hugging Face folder: ``tokenizer.json``, else ``tokenizer.model``; also in ``tokenizer/`` in
    or beside it, and in ``others``."""
    for path in tokenizer_files(folder, *others):
        return from_file(path)
    raise CheckpointError(
        f"{folder} has neither tokenizer.json nor tokenizer.model: copy one of them from the Gemma release into it"
    )


def tokenizer_files(folder: Path, *others: Path) -> list[Path]:
    """The tokenizers that :func:`from_folder` would take, the first one first."""
    places = [folder, folder / "tokenizer", folder.parent / "tokenizer", *others]
    found = (place / name for name in ("tokenizer.json", "tokenizer.model") for place in places)
    return [path for path in found if path.is_file()]
