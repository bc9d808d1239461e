"""Sharing a checkpoint on the Hugging Face hub, with code that loads it where this package is not installed.

python examples/share_on_the_hub.py [CHECKPOINT]                     # shows what would be shared; calls no hub
python examples/share_on_the_hub.py [CHECKPOINT] --name user/name    # shares it, privately

It takes `hf auth login` or HF_TOKEN. A run, with its card, recipe and history, is shared by `seqvae push`.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import pipeline

from modeling_seqvae import SeqVAE
from modeling_seqvae.sharing import add_code

CHECKPOINT = Path(__file__).resolve().parents[1] / "model_cards" / "demo-max-pool"


def main() -> None:
    """Share, or show what would be shared and that it loads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT), help="a folder, or a name on the hub")
    parser.add_argument("--name", help="user/name of a model on the hub, made if there is none")
    options = parser.parse_args()

    vae = SeqVAE.from_pretrained(options.checkpoint)
    if options.name:
        print(vae.push_to_hub(options.name, private=True))
        name = options.name
        print(
            f"next: SeqVAE.from_pretrained({name!r}), or pipeline('seqvae-features', {name!r}, trust_remote_code=True)"
        )
        return
    with TemporaryDirectory() as folder:
        vae.save_pretrained(folder)
        add_code(folder)
        for path in sorted(Path(folder).iterdir()):
            print(f"{path.stat().st_size:>12,}  {path.name}")
        features = pipeline("seqvae-features", model=folder)("this bistro was lovely.")
        print(f"not shared: give --name user/name. It loads from there, and gives {len(features)} features a text")


if __name__ == "__main__":
    main()
