"""How much memory one training takes on one device: an estimate, from formulas, not a measurement.

With P parameters, of which Q are trained, b bytes a value in matrix products (2 with ``bf16``, else 4), n rows of a
micro-batch, L tokens a row (image, question, answer), and t = n·L:

- **weights** 4·P; 2·P for LoRA with ``bf16`` on a base that is stored in bfloat16.
- **copies** 2·(P - embeddings) with ``bf16`` on float32 weights: autocast keeps a bfloat16 copy of each for the
  backward pass. Only the language model's count where the vision tower is not trained.
- **gradients** 4·Q.
- **optimiser** 8·Q: AdamW's two moments.
- **activations** t · Σ over blocks of [ Σ over linear layers b·(in + out) + Σ over norms 8·width + b·2·(heads - key
  heads)·head width, for keys and values repeated to the queries' heads, + b·intermediate of a gated MLP + 12·rank
  a layer of LoRA ], for the language model, and for the vision tower (with its patches for tokens) if it is trained.
  Attention is taken to be fused (``sdpa``); with ``eager``, which the trainer uses on CPUs, it adds
  4·heads·n·L² a block (6 with ``bf16``). With gradient checkpointing: 4·t·width a block, and one block in full.
- **logits** 2·b·n·k·V over the k places in a batch where an answer's token is predicted (at most n·A for answers of A
  tokens), and 12·n·A·V for the loss in float32.
- **step**: AdamW needs 4·Q for a moment when it steps; then activations and logits are gone, so only the larger counts.
- **overhead**: 0.75 GiB for the device's libraries and 8 % of all above for what the allocator cannot use.

**Evaluation** loads each checkpoint in float32 (4·P) and answers in batches of m: 8·m·L·key heads·head width a block
for keys and values, and the widest layer's working set. **Cached features** are in the computer's memory, not the
device's: b or 4 bytes · image tokens · width an image.

What the formulas leave out: LoRA's dropout, loss terms that run the model more than once, attention maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.trainer.estimate.architecture import Architecture, Tower
from shared.contracts import LoraSpec, TrainSpec

GIB = 1024**3
LIBRARIES = 0.75 * GIB
FRAGMENTED = 0.08


@dataclass(frozen=True)
class Load:
    """What a model is trained on: tokens of a question with its template, and of an answer."""

    question_tokens: int = 64
    answer_tokens: int = 12
    checkpointing: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    stored_in_bf16: bool = True


@dataclass(frozen=True)
class Memory:
    """Bytes, as described above; ``evaluation`` is the peak of the phase after the training."""

    weights: int
    copies: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    step: int
    evaluation: int
    cached_per_image: int

    @property
    def bare(self) -> int:
        """The training's peak without the overhead of a device."""
        fixed = self.weights + self.gradients + self.optimiser
        return fixed + max(self.copies + self.activations + self.logits, self.step)

    @property
    def training(self) -> int:
        return _with_overhead(self.bare)

    @property
    def peak(self) -> int:
        """What the device must have."""
        return max(self.training, _with_overhead(self.evaluation))


def estimate(model: Architecture, spec: TrainSpec, load: Load, eval_batch_size: int) -> Memory:
    """Memory of a training of ``model`` by ``spec``, by the formulas above."""
    bf16, lora = spec.precision == "bf16", spec.method == "lora"
    half_base = bf16 and lora and load.stored_in_bf16
    width = 2 if bf16 else 4
    rank = (spec.lora or LoraSpec()).rank
    tokens = model.pictures * model.tokens + load.question_tokens + load.answer_tokens
    rows = spec.batch_size
    through_vision = not lora and not spec.freeze_vision
    used = model.parameters if through_vision else model.language
    touched = used - model.embeddings
    trained = rank * model.adapted if lora else used
    activations = kept_activations(model.text, rows, tokens, width, load, rank if lora else 0)
    pictures = rows * model.pictures
    if through_vision:
        activations += kept_activations(model.vision, pictures, model.patches, width, load, 0)
    else:
        activations = max(activations, pictures * model.patches * width * sum(o for _, o in model.vision.linears))
    answers = rows * load.answer_tokens
    return Memory(
        weights=(2 if half_base else 4) * model.parameters,
        copies=2 * touched if bf16 and not half_base else 0,
        gradients=4 * trained,
        optimiser=8 * trained,
        activations=activations,
        logits=model.vocabulary * (2 * width * rows * answers + 12 * answers),
        step=4 * trained,
        evaluation=_evaluation(model, eval_batch_size, tokens),
        cached_per_image=(2 if half_base else 4) * model.pictures * model.tokens * model.text.width,
    )


def kept_activations(tower: Tower, rows: int, length: int, width: int, load: Load, rank: int) -> int:
    """Bytes kept for the backward pass of ``rows`` sequences of ``length``."""
    tokens = rows * length
    token = sum(width * (i + o) for i, o in tower.linears) + sum(8 * norm for norm in tower.norms)
    token += width * 2 * (tower.heads - tower.key_heads) * tower.head_width
    token += width * max(i for i, _ in tower.linears) if tower.gated else 0
    token += 12 * rank * len(tower.linears)
    block = tokens * token
    if load.attention == "eager":
        block += (6 if width == 2 else 4) * tower.heads * rows * length**2
    if load.checkpointing:
        return 4 * tokens * tower.width * tower.blocks + block
    return tower.blocks * block


def _evaluation(model: Architecture, batch: int, tokens: int) -> int:
    text, vision = model.text, model.vision
    kept = batch * tokens * text.blocks * 2 * text.key_heads * text.head_width * 4
    working = max(
        batch * tokens * 4 * sum(o for _, o in text.linears),
        batch * model.pictures * model.patches * 4 * sum(o for _, o in vision.linears),
    )
    return 4 * model.parameters + kept + working


def _with_overhead(size: int) -> int:
    return int(size * (1 + FRAGMENTED) + LIBRARIES)
