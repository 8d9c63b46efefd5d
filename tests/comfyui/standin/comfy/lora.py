def load_lora(lora, to_load, log_missing=True):
    patches = {}
    for stem, key in to_load.items():
        up, down, alpha = (lora.get(f"{stem}.{part}") for part in ("lora_up.weight", "lora_down.weight", "alpha"))
        if up is not None:
            patches[key] = ("lora", (up, down, None if alpha is None else float(alpha)))
        if f"{stem}.diff" in lora:
            patches[key] = ("diff", (lora[f"{stem}.diff"],))
        if f"{stem}.diff_b" in lora:
            patches[f"{stem}.bias"] = ("diff", (lora[f"{stem}.diff_b"],))
    return patches
