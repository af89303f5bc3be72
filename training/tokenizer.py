"""Writes CLIP's tokenizer files from the vocabulary in PyPI's package `open-clip-torch` (MIT).

    python -m training.tokenizer bpe_simple_vocab_16e6.txt.gz

SDXL's two tokenizers share a vocabulary and differ in the padding token.
"""

import argparse
import gzip
import json
from pathlib import Path

from transformers.convert_slow_tokenizer import bytes_to_unicode

from training.common import TINY_DIR

# CLIP's vocabulary: 256 bytes, 256 word-final bytes, 48,894 merges, start and end of text.
MERGES = 49152 - 256 - 2


def main() -> None:
    """Build the vocabulary in CLIP's order and save both tokenizers."""
    parser = argparse.ArgumentParser(prog="python -m training.tokenizer", description=__doc__)
    parser.add_argument("bpe", type=Path, help="bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(parser.parse_args().bpe.read_bytes()).decode().split("\n")
    merges = lines[1 : MERGES + 1]
    letters = list(bytes_to_unicode().values())
    words = (
        letters
        + [letter + "</w>" for letter in letters]
        + ["".join(merge.split()) for merge in merges]
    )
    vocab = {
        word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])
    }
    for folder, padding in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        target = TINY_DIR / folder
        target.mkdir(parents=True, exist_ok=True)
        (target / "vocab.json").write_text(
            json.dumps(vocab, ensure_ascii=False, separators=(",", ":"))
        )
        (target / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
        config = {"tokenizer_class": "CLIPTokenizer", "pad_token": padding, "model_max_length": 77}
        (target / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
