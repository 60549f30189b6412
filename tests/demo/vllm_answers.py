"""Run by test_models.py in a process of its own: greedy answers of vLLM in float32, as JSON token lists.

``python vllm_answers.py MODEL IMAGES SEED OUTPUT``
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image
from vllm import LLM, SamplingParams

from demo.world.generator import labelled, pile
from demo.world.vocabulary import Split


def main() -> None:
    model, images, seed, output = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    pictures = list(pile(images, seed, Split.DEV))
    chats = []
    for example in labelled(pictures, seed, questions_each=1):
        file = io.BytesIO()
        Image.fromarray(pictures[example.index].pixels).save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": example.question.text}]
        chats.append([{"role": "user", "content": content}])
    engine = LLM(
        model,
        dtype="float32",
        max_model_len=1024,
        enforce_eager=True,
        block_size=32,
        mm_processor_cache_gb=0,
        kv_cache_memory_bytes=134217728,
    )
    outputs = engine.chat(chats, SamplingParams(temperature=0, max_tokens=12, logprobs=1))
    rows = [{"tokens": list(one.outputs[0].token_ids), "logprob": one.outputs[0].cumulative_logprob} for one in outputs]
    output.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
