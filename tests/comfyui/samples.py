"""Small values for the node tests."""

import numpy as np
import torch


def frames(count: int, height: int = 64, width: int = 96, start: int = 0) -> torch.Tensor:
    """Frames [N, H, W, 3] in 0…1 that differ from each other and over their area."""
    y, x, t = np.mgrid[0:height, 0:width, start : start + count]
    picture = np.stack([(3 * x + 5 * y + 7 * t) % 256, (2 * x + y + 3 * t) % 256, (x + y + 11 * t) % 256])
    return torch.from_numpy(picture.transpose(3, 1, 2, 0).astype(np.float32) / 255)


def sound(seconds: float, rate: int = 24000) -> dict:
    t = torch.arange(round(seconds * rate)) / rate
    return {"waveform": torch.stack([torch.sin(440 * t), torch.sin(330 * t)])[None] * 0.3, "sample_rate": rate}


class FakeVae:
    """Stands for the host's video VAE: encode(pixels [T, H, W, 3]) → [1, 128, F, h, w], the mean of each latent's
    pixels."""

    def __init__(self):
        self.calls = []

    def encode(self, pixels):
        self.calls.append(tuple(pixels.shape))
        first, rest = pixels[:1], pixels[1:]
        parts = [first.mean(0, keepdim=True), *(piece.mean(0, keepdim=True) for piece in rest.split(8))]
        grid = torch.cat(parts).movedim(-1, 1)  # [F, 3, H, W]
        small = torch.nn.functional.avg_pool2d(grid, 32)
        return small.repeat(1, 43, 1, 1)[:, :128].movedim(0, 1)[None]
