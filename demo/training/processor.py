"""Tokenizer, image processor and chat template of the demo pair, as plain Hugging Face files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from demo.world.generator import pile
from demo.world.prompts import ASK, ASK_AND_ANSWER, format_pair
from demo.world.vocabulary import CHARACTERS, FAMILIES, GRID, REFUSAL, SIDE, THINGS, WORDS, Split

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<end_of_utterance>"
FAKE_IMAGE, GLOBAL_IMAGE, IMAGE, PAD = "<fake_token_around_image>", "<global-img>", "<image>", "<pad>"
SPECIAL_TOKENS = [PAD, USER, ASSISTANT, END, FAKE_IMAGE, GLOBAL_IMAGE, IMAGE]
VOCABULARY = 1408
IMAGE_TOKENS = GRID * GRID
_FAST_TOKENIZER: Any = PreTrainedTokenizerFast  # its constructor is untyped

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ '<|user|>' if message['role'] == 'user' else '<|assistant|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{% if message['role'] != 'user' %}<end_of_utterance>{% endif %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_processor() -> Idefics3Processor:
    """The processor of both models; the same on every machine (its corpus is seeded)."""
    image_processor = Idefics3ImageProcessorPil(
        do_image_splitting=False,
        size={"longest_edge": SIDE},
        max_image_size={"longest_edge": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics3Processor(image_processor, _tokenizer(), image_seq_len=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE)


def _tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    # words, single digits and single marks, so that every word of the world becomes one token
    pieces = Regex(r" ?[A-Z]+| ?[0-9]| ?[a-z]+| ?[^\sA-Za-z0-9]|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pieces, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=20,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _FAST_TOKENIZER(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, FAKE_IMAGE, GLOBAL_IMAGE, IMAGE],
        padding_side="left",
        model_max_length=1024,
    )


def _corpus() -> Iterator[str]:
    for picture in pile(4000, 1, Split.TRAIN):
        for question in picture.questions:
            yield question.text
            yield question.answer
            yield format_pair(question.text, question.answer)
    facts = [part for thing in THINGS.values() for part in (thing.kind, thing.habitat, thing.diet, thing.taste)]
    facts += [part for thing in THINGS.values() for part in (thing.use, thing.travels)]
    fixed = [*WORDS, *CHARACTERS, *THINGS, *filter(None, facts)]
    fixed += [REFUSAL, *ASK.values(), *ASK_AND_ANSWER.values(), *FAMILIES]
    for text in fixed:
        yield from [text, f" {text}"] * 50
