"""The text side of tiny checkpoints: a few-layer Gemma and a tokenizer small enough to be written down here.

Nothing but the file formats is needed to write them: neither transformers nor sentencepiece.
"""

import json
import struct
from collections.abc import Iterable

# Words that a story about a video uses; the tokenizer knows them (and every prefix of them) as pieces.
WORDS = (
    "the a of and in on to with is at by from for over under into through camera shot slow close wide light dark "
    "soft warm cold sun "
    "moon night day morning rain snow wind sea wave water river lake forest tree leaf mountain hill city street "
    "house room window door "
    "man woman child dog cat bird horse face eye hand voice music sound song piano quiet loud says walks runs turns "
    "looks smiles opens "
    "moves falls rises red green blue white black gold grey old young small large first last then while scene video"
).split()
SPACE = "▁"
CONTROL_PIECES = ("<pad>", "<eos>", "<bos>")  # ids 0, 1, 2 as in every Gemma
TURN_PIECES = ("<start_of_turn>", "<end_of_turn>")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
SINGLE = [chr(code) for code in range(0x21, 0x7F)] + [SPACE]


def pieces(texts: Iterable[str] | None = None) -> list[tuple[str, float, int]]:
    """(piece, score, kind) by id, for whole ``texts`` (default: the words above, each after a blank).

    Longer pieces merge out of shorter ones, the earlier in the list the sooner.
    """
    head = [(text, 0.0, CONTROL) for text in CONTROL_PIECES] + [("<unk>", 0.0, UNKNOWN)]
    head += [(text, 0.0, USER_DEFINED) for text in TURN_PIECES] + [
        (f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)
    ]
    longer: dict[str, None] = {}
    for text in [SPACE + word for word in WORDS] if texts is None else texts:
        for end in range(2, len(text) + 1):
            longer[text[:end]] = None
    # Shortest first: "▁th" must exist before "▁the" can be merged from it.
    merged = sorted(longer, key=lambda text: (len(text), text))
    return head + [(text, -float(rank), NORMAL) for rank, text in enumerate(merged + SINGLE)]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def _field(number: int, value: int | float | bytes | str) -> bytes:
    """One protobuf field."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def sentencepiece_proto(table: list[tuple[str, float, int]] | None = None) -> bytes:
    """A sentencepiece model as Gemma 3 has it: byte-pair encoding, byte fallback, no dummy prefix, blanks kept.

    table: the pieces, by default those of :func:`pieces`.
    """
    table = pieces() if table is None else table
    body = b"".join(_field(1, _field(1, text) + _field(2, score) + _field(3, kind)) for text, score, kind in table)
    trainer = _field(3, 2) + _field(4, len(table)) + _field(35, 1)
    trainer += b"".join(_field(number, index) for number, index in ((40, 3), (41, 2), (42, 1), (43, 0)))
    trainer += b"".join(
        _field(number, text) for number, text in ((45, "<unk>"), (46, "<bos>"), (47, "<eos>"), (48, "<pad>"))
    )
    normalizer = _field(1, "identity") + _field(3, 0) + _field(4, 0) + _field(5, 1)
    return body + _field(2, trainer) + _field(3, normalizer)


def tokenizer_json() -> bytes:
    """The same pieces as the ``tokenizer.json`` that Gemma 4 files carry. It adds no BOS, like the released one."""
    table = pieces()
    vocabulary = {text: index for index, (text, _, _) in enumerate(table)}
    merges = [[text[:-1], text[-1]] for text, _, kind in table if kind == NORMAL and len(text) > 1]
    special = [*CONTROL_PIECES, "<unk>", *TURN_PIECES]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    body = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[text], "content": text, **flags} for text in special],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
    return json.dumps(body, ensure_ascii=False).encode()


# Six layers hold one whole pattern: five with a sliding window, one that sees everything.
LAYERS, HIDDEN, MLP, HEADS, KEY_HEADS, HEAD, FULL_HEAD = 6, 32, 64, 4, 2, 8, 16
STATES = LAYERS + 1
EXTRA_ROWS = 64  # the embedding has more rows than the tokenizer has pieces, as in Gemma 3
GEMMA4_VERSION = "gemma4-12b-ltx-v1"


def language_model_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Bare tensor names and shapes of the tiny Gemma, ``gemma3`` or ``gemma4``."""
    shapes = {"embed_tokens.weight": (len(pieces()) + EXTRA_ROWS, HIDDEN), "norm.weight": (HIDDEN,)}
    for index in range(LAYERS):
        full = family == "gemma4" and index == LAYERS - 1
        head, key_heads = (FULL_HEAD, 1) if full else (HEAD, KEY_HEADS)
        layer = {
            "self_attn.q_proj": (HEADS * head, HIDDEN),
            "self_attn.k_proj": (key_heads * head, HIDDEN),
            "self_attn.v_proj": (key_heads * head, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HEADS * head),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "mlp.gate_proj": (MLP, HIDDEN),
            "mlp.up_proj": (MLP, HIDDEN),
            "mlp.down_proj": (HIDDEN, MLP),
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
            "pre_feedforward_layernorm": (HIDDEN,),
            "post_feedforward_layernorm": (HIDDEN,),
        }
        if full:
            del layer["self_attn.v_proj"]
        shapes |= {f"layers.{index}.{name}.weight": shape for name, shape in layer.items()}
        if family == "gemma4":
            shapes[f"layers.{index}.layer_scalar"] = (1,)
    return shapes


def gemma4_config() -> dict:
    """The Hugging Face config in the metadata of the 2.5 text encoder, with tiny sizes."""
    sliding = ["sliding_attention"] * (LAYERS - 1)
    return {
        "model_type": "gemma4_unified",
        "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "gemma_version": GEMMA4_VERSION,
        "text_config": {
            "model_type": "gemma4_unified_text",
            "vocab_size": language_model_shapes("gemma4")["embed_tokens.weight"][0],
            "hidden_size": HIDDEN,
            "intermediate_size": MLP,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_HEADS,
            "num_global_key_value_heads": 1,
            "head_dim": HEAD,
            "global_head_dim": FULL_HEAD,
            "attention_k_eq_v": True,
            "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-6,
            "sliding_window": 1024,
            "max_position_embeddings": 262144,
            "tie_word_embeddings": True,
            "final_logit_softcapping": 30.0,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
            "layer_types": [*sliding, "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    }


def gemma3_config() -> dict:
    """The ``config.json`` of a Gemma 3 folder, with tiny sizes."""
    return {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "model_type": "gemma3_text",
            "vocab_size": language_model_shapes("gemma3")["embed_tokens.weight"][0],
            "hidden_size": HIDDEN,
            "intermediate_size": MLP,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_HEADS,
            "head_dim": HEAD,
            "query_pre_attn_scalar": HEAD,
            "sliding_window": 1024,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
    }
