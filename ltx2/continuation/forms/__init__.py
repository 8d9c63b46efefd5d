"""The forms of a saved state: taken apart once, written as a folder, one .safetensors file or a PNG card."""
