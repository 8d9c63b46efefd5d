"""Write the transformer's golden files anew with ltx-core 1.0.0: ``python -m tests.golden._make_transformer DIR``.

Weights are exact in bfloat16 and stored so. What ltx-core 1.0.0 lacks (the modulation timesteps of later versions,
LTX-2.5) is added from outside, see ``tests/networks/transformer/references.py``.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.networks.transformer import references, samples

from ._weights import PREFIX

CASES = {
    "2.0": ("plain", "two_sigmas", "first_frame", "mixed", "text_mask"),
    "2.0-interleaved": ("first_frame",),
    "2.3": ("first_frame", "frozen_audio", "fractional_mask", "stg", "isolated", "mixed", "appended", "sound_first"),
    "2.5": ("two_sigmas", "mask", "mixed", "appended", "slots"),
}


def flat(prefix: str, parts: dict) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor.contiguous().clone() for name, tensor in parts.items()}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (version, cases) in enumerate(CASES.items()):
        config = samples.small_config(version)
        weights = samples.small_transformer(config, seed).state_dict()
        modules = samples.small_text_path(config, seed)
        text_weights = {
            f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()
        }
        named = {PREFIX + name: tensor for name, tensor in weights.items()}
        named |= {name if name.startswith("text") else PREFIX + name: tensor for name, tensor in text_weights.items()}
        beside = {"weights": f"weights_{version}.safetensors"}
        save_file(
            {name: tensor.bfloat16() for name, tensor in named.items()},
            folder / beside["weights"],
            metadata={"config": json.dumps({"transformer": config})},
        )
        model = references.ltx_core_model(config, weights)
        for case in cases:
            given = samples.inputs(config, seed + 40, case)
            outputs = dict(zip(("video", "audio"), references.ltx_core(model, given)))
            tensors = (
                flat("input.video", given["video"]) | flat("input.audio", given["audio"]) | flat("output", outputs)
            )
            perturbations = json.dumps(given["perturbations"])
            save_file(
                tensors,
                folder / f"dit_{version}_{case}.safetensors",
                metadata={**beside, "perturbations": perturbations},
            )
        if version in ("2.0", "2.3"):
            states, mask = samples.text_states(config, seed + 40)
            contexts = dict(zip(("video", "audio"), references.ltx_core_contexts(config, text_weights, states, mask)))
            tensors = flat("input", {"states": states, "mask": mask}) | flat("output", contexts)
            save_file(tensors, folder / f"connector_{version}.safetensors", metadata=beside)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
