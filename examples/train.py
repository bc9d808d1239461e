"""Training for `accelerate launch` and `torchrun`, which start a file: the same as `seqvae train`, options included.

accelerate launch examples/train.py --method max_pool --corpus yahoo --data-dir DIR --output-dir RUN \
    [--set training.epochs=5 ...] [--resume] [--profile]
"""

import sys

from modeling_seqvae.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
