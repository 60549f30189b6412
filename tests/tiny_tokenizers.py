"""Small tokenizers of the kinds that vision-language models have, made of real parts and trained in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BASICS = ["<unk>", "<s>", "</s>", "<pad>"]
MARKS = [
    "<image>", "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<end_of_utterance>", "<|im_start|>",
    "<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|endoftext|>", "<IMG_CONTEXT>", "<video>",
    "[INST]", "[/INST]", "[IMG]", "<|begin_of_text|>", "<|eot_id|>", "<｜begin▁of▁sentence｜>",
]  # fmt: skip
"""Special tokens of the supported families and of others."""
NOT_SPECIAL = ["<think>", "</think>", "<tool_call>", "<|fim_prefix|>", "<loc_0001>"]
"""Added, and not called special, but no text either."""
ADDED_WORDS = ["myocardium", "    "]
"""Added, and nothing but text."""
CORPUS = [
    "the image shows a tag and the end of the row, what colour is it? the answer is red or dark blue",
    "<tag> [x] a < b and b > a | {json: 1} fake_token_around_image global-img row_1_col_1 im_start im_end pad",
    "Question: how many bars are there in 2015? Answer: 17.5 % (about 1/6), vision start, begin of text, think call",
]
_FAST: Any = PreTrainedTokenizerFast  # untyped


def byte_level() -> Tokenizer:
    """As GPT-2, SmolVLM, Llama 3."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def composed() -> Tokenizer:
    """As Qwen: byte level after NFC."""
    made = byte_level()
    made.normalizer = normalizers.NFC()
    return made


def prefixed() -> Tokenizer:
    """As Llama 2, and so LLaVA: white space becomes a mark, and one stands at the beginning."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def first_prefixed() -> Tokenizer:
    """As newer conversions of Llama: only the beginning of the whole text gets the mark."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def unigram() -> Tokenizer:
    """As T5 and XLM-RoBERTa: special tokens are pieces of the vocabulary too."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    return made


def word_pieces() -> Tokenizer:
    """As BERT: lower case, and unknown words."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return made


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "composed": composed,
    "prefixed": prefixed,
    "first_prefixed": first_prefixed,
    "unigram": unigram,
    "word_pieces": word_pieces,
}
LOSSLESS = ("byte_level", "composed", "prefixed", "first_prefixed")


def build_tokenizer(kind: str, *, normalized: bool = False) -> Any:
    """A tokenizer of ``kind`` with all the tokens above; ``normalized``: its marks are looked for after normalising."""
    made = KINDS[kind]()
    trainer: Any = {
        models.BPE: trainers.BpeTrainer,
        models.Unigram: trainers.UnigramTrainer,
        models.WordPiece: trainers.WordPieceTrainer,
    }[type(made.model)]
    alphabet = [chr(code) for code in range(33, 127)]
    if made.pre_tokenizer is not None and "ByteLevel" in repr(made.pre_tokenizer):
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    more = {"unk_token": "<unk>"} if trainer is trainers.UnigramTrainer else {}
    basics = [AddedToken(text, special=True, normalized=normalized) for text in BASICS]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if "byte_fallback=True" in repr(made.model) else []
    made.train_from_iterator(
        CORPUS,
        trainer(
            vocab_size=700, special_tokens=[*basics, *bytes_], initial_alphabet=alphabet, show_progress=False, **more
        ),
    )
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = _FAST(tokenizer_object=_without_added(made, bytes_), **names)
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=normalized) for text in MARKS], special_tokens=True)
    tokenizer.add_tokens([AddedToken(text, normalized=normalized) for text in [*NOT_SPECIAL, *ADDED_WORDS]])
    return tokenizer


def _without_added(made: Tokenizer, bytes_: Sequence[str]) -> Tokenizer:
    """Bytes are pieces of the vocabulary and no special tokens; the trainer can only add them as such."""
    content = json.loads(made.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in bytes_]
    return Tokenizer.from_str(json.dumps(content))
