"""Folders of one base directory, which a test sets."""

import os

base = os.path.join(os.path.expanduser("~"), ".cache", "continuum-tests")


def _in_base(*parts):
    folder = os.path.join(base, *parts)
    os.makedirs(folder, exist_ok=True)
    return folder


def get_input_directory():
    return _in_base("input")


def get_output_directory():
    return _in_base("output")


def get_temp_directory():
    return _in_base("temp")


# GGUF files are not among what a plain host lists
SUFFIXES = (".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft")
KINDS = {
    "checkpoints",
    "diffusion_models",
    "text_encoders",
    "vae",
    "loras",
    "latent_upscale_models",
    "model_patches",
    "vae_approx",
}


def get_filename_list(kind):
    if kind not in KINDS:
        raise KeyError(kind)
    root = _in_base("models", kind)
    found = (
        os.path.relpath(os.path.join(folder, f), root)
        for folder, _, files in os.walk(root, followlinks=True)
        for f in files
    )
    return sorted(name.replace(os.sep, "/") for name in found if name.endswith(SUFFIXES))


def get_full_path(kind, name):
    path = os.path.join(_in_base("models", kind), name)
    return path if os.path.isfile(path) else None


def get_folder_paths(kind):
    return [_in_base("models", kind)]


def get_save_image_path(prefix, output_dir, image_width=0, image_height=0):
    subfolder, name = os.path.dirname(os.path.normpath(prefix)), os.path.basename(os.path.normpath(prefix))
    folder = os.path.join(output_dir, subfolder)
    os.makedirs(folder, exist_ok=True)
    numbers = [f[len(name) + 1 :].split("_")[0] for f in os.listdir(folder) if f.startswith(f"{name}_")]
    counter = max((int(n) for n in numbers if n.isdigit()), default=0) + 1
    return folder, name, counter, subfolder, prefix


def __getattr__(name):
    """Module attributes that follow the base directory."""
    if name == "folder_names_and_paths":
        return {kind: ([_in_base("models", kind)], set(SUFFIXES)) for kind in KINDS}
    if name == "base_path":
        return base
    raise AttributeError(name)
