"""OFT: blocks of rows turned by small orthogonal matrices."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ....errors import CheckpointError
from ..difference import Difference, Parts, Shape
from ..stored import AdapterKind, StoredModule
from ..unread import INSTEAD

EPS = 1e-8


@dataclass(frozen=True)
class Orthogonal:
    """Rows of block k become Rₖᵀ · rows, times ``rescale`` where there is one; R = (I + Q)(I − Q)⁻¹ with Q = B − Bᵀ for
    the stored blocks B. limit: of the norm of all Q together; 0: none."""

    limit: float = 0.0
    name: str = "OFT"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        return shapes["blocks"][0] * shapes["blocks"][1], *wanted[1:]

    def rank(self, shapes: Mapping[str, Shape]) -> None:
        """The rank of the factors; see Kind."""
        return None

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        turn = self._rotations(parts["blocks"].float())
        rows = weight.float().view(len(turn), turn.shape[1], -1)  # [k, b, in]
        turned = turn.transpose(1, 2) @ rows
        if "rescale" in parts:
            turned *= parts["rescale"].float().view(len(turn), -1, 1)
        weight.copy_(torch.lerp(rows, turned, strength).view(weight.shape))

    def _rotations(self, blocks: torch.Tensor) -> torch.Tensor:
        skew = blocks - blocks.transpose(1, 2)
        norm = torch.linalg.vector_norm(skew) + EPS
        if self.limit > 0 and norm > self.limit:
            skew = skew * (self.limit / norm)
        identity = torch.eye(blocks.shape[1], device=blocks.device)
        # (I + Q) and (I − Q)⁻¹ commute, so that either order gives R
        return torch.linalg.solve(identity - skew, identity + skew)


def _read(module: StoredModule) -> Mapping[str, Difference]:
    parts = module.need("blocks")
    shape = parts["blocks"].shape
    if len(shape) != 3 or shape[1] != shape[2]:
        if len(shape) == 4:
            raise CheckpointError(f"{module.path} holds BOFT for {module.name}, which is not read here: {INSTEAD}")
        raise module.refuse(f"oft_blocks of shape {list(shape)}, expected square blocks [n, b, b],")
    if "rescale" in module.parts:
        parts["rescale"] = module.parts["rescale"]
        if parts["rescale"].shape[0] != shape[0] * shape[1] or len(parts["rescale"].shape) > 4:
            raise module.refuse(f"rescale of shape {list(parts['rescale'].shape)}, expected a number a row,")
    return {"": Difference(Orthogonal(module.stated_alpha), parts)}


KIND = AdapterKind("OFT", {r"oft_blocks": "blocks", r"rescale": "rescale"}, _read)
