"""``ltx2 tiny DIR``: tiny checkpoints with random weights in a released layout."""

import argparse

from ..tiny.configs import VERSIONS
from ..tiny.write import write_tiny


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "tiny",
        help="write tiny checkpoints with random weights, to try everything without a download",
        description=(
            "Write all files of one LTX-2 version with tiny random weights, named and laid out like the released "
            "ones, in folders named like ComfyUI's. They make random colours and noise within seconds on a CPU."
        ),
    )
    parser.add_argument("folder", metavar="DIR", help="where to write them; it is made if it does not exist")
    parser.add_argument("--version", choices=VERSIONS, default="2.3", help="which release's layout (default 2.3)")
    parser.add_argument("--seed", type=int, default=0, help="other random weights (default 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the verb. Raises Ltx2Error."""
    paths = write_tiny(args.folder, args.version, args.seed)
    roles: dict = {}
    for role, path in paths.items():
        roles.setdefault(path, []).append(role)
    for path, names in roles.items():
        print(f"{path}  ({', '.join(names)}; {path.stat().st_size / 1e6:.2f} MB)")
