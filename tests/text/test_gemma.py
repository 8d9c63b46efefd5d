"""Text encoders from every kind of file, and prompts to contexts."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltx2.checkpoint.models import load_connectors, load_text_projection
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError, RequestError
from ltx2.text.cache import ContextCache, fingerprint
from ltx2.text.gemma import check_gemma_version, encode, load_text_encoder, project_prompt, run_hidden_states
from ltx2.text.tokenizer import MAX_TOKENS, prompt_ids
from ltx2.tiny import text as tiny_text
from tests.text.padding import padded_ids

PROMPT = 'The camera moves slowly over the sea, a man says "hello".'
FAMILIES = {"2.0": "gemma3", "2.3": "gemma3", "2.5": "gemma4"}


@pytest.fixture(scope="module")
def parts(tiny):
    """version → encoder, projection, connectors in float32."""

    def load(version):
        paths = tiny(version)
        checkpoint = open_checkpoint(paths["transformer"], paths["text_projection"])
        to = {"dtype": torch.float32}
        encoder = load_text_encoder(paths["text_encoder"], **to)
        return encoder, load_text_projection(checkpoint, **to), load_connectors(checkpoint, **to)

    loaded = {}
    return lambda version: loaded.get(version) or loaded.setdefault(version, load(version))


def states_of(encoder, ids, mask=None):
    states = {}
    run_hidden_states(encoder, ids, mask, lambda index, state: states.setdefault(index, state.clone()))
    return [states[index] for index in range(len(states))]


@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_states_are_those_of_transformers(parts, version):
    encoder = parts(version)[0]
    assert encoder.family == FAMILIES[version]
    ids, mask = padded_ids([prompt_ids(encoder.tokenizer, PROMPT), prompt_ids(encoder.tokenizer, "rain")])
    with torch.inference_mode():
        expected = encoder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    hooks = [len(module._forward_hooks) for module in encoder.model.modules()]
    found = states_of(encoder, ids, mask)
    assert hooks == [len(module._forward_hooks) for module in encoder.model.modules()]
    assert len(found) == len(expected) == encoder.states == tiny_text.STATES
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
def test_own_tokens_alone_equal_a_padded_run(parts, version):
    encoder, projection, connectors = parts(version)
    ids, mask = padded_ids([prompt_ids(encoder.tokenizer, PROMPT)])
    accumulator = projection.accumulator(mask)
    with torch.inference_mode():
        run_hidden_states(encoder, ids, mask, accumulator.add)
        padded = accumulator.features()
        expected = [connector(features, mask) for connector, features in zip(connectors, padded)]
    context = encode(encoder, projection, connectors, [PROMPT])[0]
    for found, other in zip((context.video, context.audio), expected):
        assert found.shape == other.shape and found.shape[1] == MAX_TOKENS
        torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)


def test_features_come_first_and_zeros_follow(parts):
    encoder, projection, _ = parts("2.3")
    video, audio, mask = project_prompt(encoder, projection, PROMPT)
    count = len(prompt_ids(encoder.tokenizer, PROMPT))
    assert mask[0].tolist() == [1] * count + [0] * (MAX_TOKENS - count)
    for features in (video, audio):
        assert features[0, :count].abs().amin(-1).gt(0).any() and features[0, count:].eq(0).all()


def test_a_context_does_not_depend_on_its_neighbours(parts):
    encoder, projection, connectors = parts("2.0")
    together = encode(encoder, projection, connectors, [PROMPT, "", "rain " * 2000])
    for prompt, context in zip((PROMPT, "  ", "rain " * 1500), together):
        alone = encode(encoder, projection, connectors, [prompt])[0]
        assert torch.equal(alone.video, context.video) and torch.equal(alone.audio, context.audio)


def test_states_are_let_go(parts):
    import weakref

    encoder, projection, _ = parts("2.3")
    alive, seen = [], []

    def take(index, state):
        seen.append(index)
        alive.append(weakref.ref(state))
        # transformers itself holds the embedding to the end; of the rest only the newest two live, for the residual
        assert not any(old() is not None for old in alive[1:-2])

    ids = torch.tensor([prompt_ids(encoder.tokenizer, PROMPT)])
    run_hidden_states(encoder, ids, None, take)
    assert seen == list(range(encoder.states))


def test_cache(parts, monkeypatch):
    encoder, projection, connectors = parts("2.3")
    cache = ContextCache()
    first = encode(encoder, projection, connectors, [PROMPT, "rain"], cache=cache)
    assert len(cache) == 2 and cache.bytes > 0
    calls = []
    monkeypatch.setattr(type(encoder.model), "forward", lambda *a, **k: calls.append(1) or pytest.fail("encoded again"))
    again = encode(encoder, projection, connectors, ["rain ", f" {PROMPT}"], cache=cache)
    assert torch.equal(again[0].video, first[1].video) and torch.equal(again[1].audio, first[0].audio)
    monkeypatch.undo()
    other = dataclasses.replace(encoder, identity="another file")
    encode(other, projection, connectors, ["rain"], cache=cache)
    assert len(cache) == 3


def test_cache_limit_drops_the_longest_unused(parts):
    encoder, projection, connectors = parts("2.3")
    cache = ContextCache(limit_bytes=1)
    encode(encoder, projection, connectors, ["rain", "snow"], cache=cache)
    assert len(cache) == 1
    many = ContextCache(limit_contexts=2)
    encode(encoder, projection, connectors, ["rain", "snow"], cache=many)
    held = many.bytes
    encode(encoder, projection, connectors, ["rain", "wind", "hail"], cache=many)  # as a story asks, one by one
    assert len(many) == 2 and many.bytes == held


def test_fingerprint_tells_weights_apart(parts):
    _, projection, connectors = parts("2.3")
    assert fingerprint(projection, *connectors) == fingerprint(projection, *connectors) != fingerprint(projection)
    video = connectors[0]
    before = fingerprint(video)
    weights = {name: tensor.clone() for name, tensor in video.state_dict().items()}
    try:
        video.load_state_dict({name: tensor * 1.01 for name, tensor in weights.items()})
        assert fingerprint(video) != before
    finally:
        video.load_state_dict(weights)
    assert fingerprint(video) == before


def test_prompt_must_be_text(parts):
    with pytest.raises(RequestError, match="a prompt is text, got int"):
        encode(*parts("2.3"), [3])


def test_wrong_gemma_is_one_sentence(parts, monkeypatch):
    encoder, projection, connectors = parts("2.3")
    monkeypatch.setattr(encoder.model.config, "hidden_size", 2560)
    with pytest.raises(
        CheckpointError, match=r"7 states of 2560, the checkpoint's text projection expects 7 of 32.*Gemma 3 12B"
    ):
        encode(encoder, projection, connectors, [PROMPT])


def test_version_check(parts, tiny):
    gemma3, gemma4 = parts("2.3")[0], parts("2.5")[0]
    metadata = open_checkpoint(tiny("2.5")["transformer"]).metadata
    assert gemma4.version == tiny_text.GEMMA4_VERSION
    check_gemma_version(gemma4, metadata)
    silent = open_checkpoint(tiny("2.3")["transformer"]).metadata
    check_gemma_version(gemma3, silent, "ltx-2.3.safetensors", "Gemma 3 12B")
    with pytest.raises(CheckpointError, match="ltx-2.3.safetensors was trained with Gemma 3 12B"):
        check_gemma_version(gemma4, silent, "ltx-2.3.safetensors", "Gemma 3 12B")
    with pytest.raises(
        CheckpointError, match="ltx-2.5.safetensors was trained with the text encoder gemma4-12b-ltx-v1.*Gemma 3 12B"
    ):
        check_gemma_version(gemma3, metadata, "ltx-2.5.safetensors")
    with pytest.raises(CheckpointError, match="gemma4-12b-ltx-v1.*gemma4-12b-it"):
        check_gemma_version(dataclasses.replace(gemma4, version="gemma4-12b-it"), metadata)
    # a converted file without metadata: Gemma 4 all the same
    check_gemma_version(dataclasses.replace(gemma4, version=None), metadata)
    with pytest.raises(CheckpointError, match="damaged"):
        check_gemma_version(gemma4, {"gemma_source_checkpoint": "{"})


# --- files ---------------------------------------------------------------------------------------------------------


def bare(path):
    return {
        name.removeprefix("model."): tensor for name, tensor in load_file(path).items() if name.startswith("model.")
    }


@pytest.mark.parametrize("shards", [1, 2])
def test_hugging_face_folder(tiny, parts, tmp_path, shards):
    """Gemma 3 as on the hub: a config, one file or shards with an index, a picture tower beside, tokenizer.model."""
    tensors = {f"language_model.model.{name}": tensor for name, tensor in bare(tiny("2.3")["text_encoder"]).items()}
    tensors["vision_tower.vision_model.embeddings.patch_embedding.weight"] = torch.zeros(4, 3, 2, 2)
    (tmp_path / "config.json").write_text(json.dumps(tiny_text.gemma3_config()))
    (tmp_path / "tokenizer.model").write_bytes(tiny_text.sentencepiece_proto())
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_text_encoder(tmp_path)
    if shards == 1:
        save_file(tensors, tmp_path / "model.safetensors")
    else:
        names = sorted(tensors)
        weight_map = {}
        for index, group in enumerate((names[::2], names[1::2])):
            file = f"model-{index + 1:05}-of-00002.safetensors"
            save_file({name: tensors[name] for name in group}, tmp_path / file)
            weight_map |= dict.fromkeys(group, file)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    encoder = load_text_encoder(tmp_path, dtype=torch.float32)
    same = parts("2.3")[0]
    ids = torch.tensor([prompt_ids(encoder.tokenizer, PROMPT)])
    assert ids.tolist() == [prompt_ids(same.tokenizer, PROMPT)]
    for one, other in zip(states_of(encoder, ids), states_of(same, ids)):
        assert torch.equal(one, other)
    if shards == 2:
        (tmp_path / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(CheckpointError, match="lacks 1 of 2 shards.*model-00002"):
            load_text_encoder(tmp_path)


@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_folders_saved_by_transformers(tmp_path, version):
    """Whole multimodal models with random weights, saved by transformers: its own hidden states are the reference."""
    import transformers

    if version == "2.5":
        from transformers.models.gemma4_unified import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

        config = Gemma4UnifiedConfig(
            text_config=tiny_text.gemma4_config()["text_config"],
            vision_config={"mm_embed_dim": 8, "mm_posemb_size": 4, "output_proj_dims": 32, "patch_size": 2},
            audio_config={"audio_embed_dim": 8},
        )
        model = Gemma4UnifiedForConditionalGeneration(config)
    else:
        config = transformers.Gemma3Config(
            text_config=tiny_text.gemma3_config()["text_config"],
            vision_config={
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 56,
            },
            mm_tokens_per_image=16,
        )
        model = transformers.Gemma3ForConditionalGeneration(config)
    model.eval().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tiny_text.tokenizer_json())
    encoder = load_text_encoder(tmp_path, dtype=torch.float32)
    ids, mask = padded_ids([prompt_ids(encoder.tokenizer, PROMPT)])
    with torch.inference_mode():
        expected = model.model.language_model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True
        ).hidden_states
    for one, other in zip(states_of(encoder, ids, mask), expected, strict=True):
        torch.testing.assert_close(one[0, mask[0] > 0], other[0, mask[0] > 0], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_the_default_and_frequencies_stay_float32(tiny):
    encoder = load_text_encoder(tiny("2.3")["text_encoder"])
    assert encoder.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert encoder.model.rotary_emb.full_attention_inv_freq.dtype == torch.float32
    assert encoder.model.embed_tokens(torch.tensor([[3]])).dtype == torch.bfloat16


def test_scaled_fp8(tiny, parts, tmp_path):
    same = parts("2.3")[0]
    tensors = load_file(tiny("2.3")["text_encoder"])
    for name in [name for name in tensors if "_proj.weight" in name]:
        weight = tensors[name].float()
        scale = weight.abs().max() / 448
        tensors[name] = (weight / scale).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale"] = scale
    path = tmp_path / "gemma_3_12B_it_fp8_scaled.safetensors"
    save_file(tensors, path)
    encoder = load_text_encoder(path, dtype=torch.float32)
    ids = torch.tensor([prompt_ids(encoder.tokenizer, PROMPT)])
    found, expected = states_of(encoder, ids)[-1], states_of(same, ids)[-1]
    assert (found - expected).std() < 0.2 * expected.std()


def test_gemma4_without_metadata(tiny, parts, tmp_path):
    path = tmp_path / "converted.safetensors"
    save_file(load_file(tiny("2.5")["text_encoder"]), path)
    encoder, same = load_text_encoder(path, dtype=torch.float32), parts("2.5")[0]
    assert encoder.version is None and encoder.family == "gemma4"
    ids = torch.tensor([prompt_ids(encoder.tokenizer, PROMPT)])
    for one, other in zip(states_of(encoder, ids), states_of(same, ids)):
        assert torch.equal(one, other)


def test_bad_files_are_one_sentence(tiny, tmp_path):
    with pytest.raises(CheckpointError, match="no text encoder.*gemma_3_12B_it"):
        load_text_encoder(tiny("2.3")["transformer"])
    tensors = load_file(tiny("2.3")["text_encoder"])
    path = tmp_path / "gemma.safetensors"
    without = {name: tensor for name, tensor in tensors.items() if name != "spiece_model"}
    save_file(without, path)
    with pytest.raises(CheckpointError, match="gemma.safetensors holds no tokenizer"):
        load_text_encoder(path)
    given = tmp_path / "elsewhere"
    given.mkdir()
    (given / "tokenizer.model").write_bytes(tiny_text.sentencepiece_proto())
    for tokenizer in (given, given / "tokenizer.model"):
        assert load_text_encoder(path, tokenizer=tokenizer).tokenizer.size == len(tiny_text.pieces())
    save_file(tensors | {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"][:99].clone()}, path)
    with pytest.raises(CheckpointError, match="tokenizer.*653 pieces, the model 99"):
        load_text_encoder(path)
    del tensors["model.layers.3.mlp.up_proj.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="up_proj"):
        load_text_encoder(path)
