"""An example for every property and parameter of an OpenAPI document, in one place, so that they tell one story.

A field of a contract may have examples of its own; then these are shown. What has a telling default, values to choose
from, or parts with examples, needs no entry here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from shared.contracts import EXAMPLE_IMAGE

_JOB, _DIGEST = "20261128-101500-7f3a2c1e", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_VERSION, _BASE, _STORE = f"job-{_JOB}", "base", "s3://bucket/mpa"
_CREATED, _LATER = "2026-11-28T10:15:00Z", "2026-11-28T11:02:30Z"
_QUESTION, _PICTURE = "How many bars are red?", f"data:image/png;base64,{EXAMPLE_IMAGE}"
_TOKENS = {"prompt": 412000, "completion": 9800, "saved": 350000}
_VERDICTS = {"disparity": 120, "student_right": 540, "teacher_inconsistent": 42, "unparsable": 12, "refused": 6}

EXAMPLES: Mapping[str, Any] = MappingProxyType(
    {
        # jobs and what they read
        "job_id": _JOB,
        "JobStatus.id": _JOB,
        "name": "street signs, week 12",
        "images": 240,
        "JobSpec.images": [{"kind": "folder", "path": "/data/signs", "recursive": True, "tasks": ["textvqa"]}],
        "path": "/data/signs",
        "ManifestSource.path": "/data/list.jsonl",
        "pattern": "/data/more/*.jpg",
        "upload_id": "up-5d41402abc4b2a76",
        "since": "2026-11-20T00:00:00Z",
        "tasks": ["textvqa"],
        "task": "textvqa",
        "files": 3,
        "Upload.files": ["signs.zip"],
        "bytes": 5242880,
        "LeftOut.reason": "not an image format that is read (.csv)",
        "LeftOut.example": "signs/list.csv",
        "image_notes": {"the first page of a TIFF with several": 2},
        "causes": {"answer_cut_off": 55, "declined": 12},
        "student": "student",
        "benchmark": "/data/benchmark.jsonl",
        "seed": 7,
        "min_questions": 200,
        "max_steps": 500,
        "target_modules": ["q_proj", "v_proj"],
        "weigh_by": ["vote_share"],
        "CheckpointCard.train": {"method": "lora", "learning_rate": 0.0005, "lora": {"rank": 16, "alpha": 32}},
        # how a job goes
        "created_at": _CREATED,
        "updated_at": _LATER,
        "finished_at": _LATER,
        "done": 128,
        "total": 240,
        "count": 120,
        "mean": 0.41,
        "tenths": [4, 9, 14, 20, 24, 19, 13, 9, 5, 3],
        "discrepancies": {"confidence": {"count": 120, "mean": 0.41, "tenths": [4, 9, 14, 20, 24, 19, 13, 9, 5, 3]}},
        "pairs": 720,
        "verdicts": _VERDICTS,
        "rate_images_per_second": 1.6,
        "eta_seconds": 70.0,
        **{f"TokenCount.{name}": number for name, number in _TOKENS.items()},
        "JobStatus.teacher_tokens": _TOKENS,
        "reason": "agreement with the teacher rose from 0.61 to 0.74 on 72 held-out questions",
        "last_error": "the teacher at http://teacher:8000 answered 500 three times",
        "waiting_for": "the teacher, which does not answer",
        "set_url": f"{_STORE}/jobs/{_JOB}/set",
        "checkpoint_url": f"{_STORE}/checkpoints/student/{_VERSION}",
        "seconds": {"queued": 1.2, "collecting": 150.4, "training": 310.9},
        "JobStatus.version": 7,
        "JobEvent.version": 7,
        "JobStatus.state": "succeeded",
        "TrainingInfo.state": "training",
        "JobWarning.text": "There are only 12 disparity pairs to train on, less than one batch.",
        "JobWarning.code": "few_disparities",
        "cause": "The job has few images, or most pairs were unusable.",
        "advice": "Submit more images, or ask more questions about each.",
        "checked": 660,
        "disparity": 120,
        "RoundReport.round": 1,
        "RoundReport.student": _BASE,
        "good": True,
        "disparity_rate": 0.18,
        "failed_questions": {"textvqa": ["What does the blue sign say?"]},
        "gain": 0.13,
        "next_cursor": "3-0",
        "cursor": "3-0",
        # training and evaluation
        "step": 120,
        "steps": 300,
        "loss": 0.42,
        "samples_per_second": 18.5,
        "memory_bytes": 2147483648,
        "gradient_norm": 0.8,
        "terms": {"answer": 0.38, "consistency": 0.13},
        "losses": [[10, 1.9], [120, 0.42]],
        "questions": 72,
        "gain_interval": [0.04, 0.22],
        "agreement_before": 0.61,
        "agreement_after": 0.74,
        "benchmark_questions": 500,
        "accuracy_before": 0.55,
        "accuracy_after": 0.6,
        "accuracy_teacher": 0.81,
        # pairs, questions and answers
        "pair_id": "0000017.textvqa.0",
        "Pair.image": "/data/signs/0017.jpg",
        "Pair.reason": "student answers 'stop', teacher 'no entry' (3 of 3 votes)",
        "question": _QUESTION,
        "answer": "two",
        "answers": ["two", "three"],
        "teacher_answer": "two",
        "student_answer": "three",
        "vote_share": 1.0,
        "Pair.cause": "student_cut_off",
        "Pair.votes": ["two", "two", "two"],
        "teacher_logprob": -0.05,
        "student_logprob": -0.7,
        "student_version": _BASE,
        "rationale": "Two of the five bars are red.",
        "confidence_gap": 0.6,
        "reasoning_gap": 0.3,
        "attention_gap": 0.2,
        "image_note": "the first page of a TIFF with several",
        "metric": "vqa",
        "TaskInfo.name": "textvqa",
        "answer_prompt": "{question} Answer with a word or a short phrase.",
        "prompt": "{question} Answer with a word or a short phrase.",
        "max_answer_tokens": 16,
        "max_tokens": 16,
        "max_completion_tokens": 16,
        "image": _PICTURE,
        "image_png_base64": EXAMPLE_IMAGE,
        # checkpoints
        "version": _VERSION,
        "checkpoint": _VERSION,
        "candidate": _VERSION,
        "base": _BASE,
        "previous": _BASE,
        "active": _VERSION,
        "digest": _DIGEST,
        "set_digest": _DIGEST,
        "sha256": _DIGEST,
        "CardFile.name": "model.safetensors",
        "size": 2702336,
        "rank": 16,
        "CheckpointCard.loss": {"answer": 1.0, "final": 0.42},
        "packages": {"torch": "2.13.0", "transformers": "5.19.0"},
        "teacher": "teacher",
        "url": f"{_STORE}/checkpoints/student/{_VERSION}",
        "promoted_by": _VERSION,
        "promoted_at": _LATER,
        "generation": 3,
        "by": "eve",
        "deadline_seconds": 60,
        "SwapResult.seconds": 0.4,
        # replicas and canaries
        "ReplicaInfo.id": "student-1",
        "address": "10.0.0.7:8101",
        "problem": f"{_VERSION} cannot serve: its files differ from the card",
        "started_at": _CREATED,
        "seen_at": _LATER,
        "queued": 2,
        "Canary.id": "c-3f2a",
        "revision": 4,
        "baseline": _BASE,
        "share": 0.05,
        "compare": 1.0,
        "started_by": "eve",
        "changed_by": "eve",
        "changed_at": _LATER,
        "Canary.reason": "started",
        "expires_at": "2026-11-28T12:02:30Z",
        "lifetime_seconds": 3600,
        "min_agreement": 0.9,
        "max_seconds": 7200,
        "CanaryDecision.reason": "as good as the old one",
        "requests": 400,
        "latency_mean": 0.21,
        "latency_p50": 0.19,
        "latency_p95": 0.4,
        "latency_p99": 0.7,
        "compared": 180,
        "agreement": 0.93,
        "verdict": "within all limits; 400 of 200 answers",
        # OpenAI's dialect
        "model": "student",
        "ImageURL.url": _PICTURE,
        "detail": "auto",
        "ChatMessage.role": "user",
        "ChatMessage.content": [
            {"type": "image_url", "image_url": {"url": _PICTURE}},
            {"type": "text", "text": _QUESTION},
        ],
        "TextPart.text": _QUESTION,
        "AnswerMessage.content": "two",
        "reasoning": "Two of the five bars are red.",
        "reasoning_content": "Two of the five bars are red.",
        "refusal": "I cannot help with that.",
        "stop": ["\n"],
        "top_logprobs": 5,
        "response_format": {"type": "json_object"},
        "user": "user-7",
        "ChatResponse.id": "chatcmpl-7f3a2c1e",
        "ModelInfo.id": f"student@{_VERSION}",
        "created": 1795860900,
        "system_fingerprint": _VERSION,
        "finish_reason": "stop",
        "prompt_tokens": 190,
        "completion_tokens": 2,
        "total_tokens": 192,
        "token": "two",
        "logprob": -0.05,
        "TopLogprob.bytes": [116, 119, 111],
        "TokenLogprob.bytes": [116, 119, 111],
        # scores and attention
        "mean_logprob": -0.03,
        "tokens": ["two", "<end>"],
        "token_logprobs": [-0.04, -0.01],
        "values": [[0.1, 0.2], [0.3, 0.4]],
        "image_share": 0.35,
        "layers": [0, 1, 2],
        # health and errors
        "service": "parity",
        "release": "0.1.0",
        "Health.reason": "Redis does not answer: connection refused",
        "details": {"queue": 2},
        "Problem.type": "urn:mpa:problem:not-found",
        "Problem.title": "Not found",
        "Problem.status": 404,
        "Problem.detail": f"There is no job {_JOB!r}: GET /v1/jobs lists those that exist.",
        "message": "The model 'gpt' does not exist here: use 'student'.",
        "ErrorBody.type": "not_found_error",
        "param": "model",
        "code": "not-found",
        # parameters
        "idempotency-key": "signs-week-12",
        "if-none-match": '"7"',
        "wait": 30,
    }
)
"""By property, or by ``Model.property`` where the same name means something else or holds another type."""
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def add_examples(document: dict[str, Any]) -> None:
    """Give every property and parameter of ``document`` an example, unless it has one or nothing yields one."""
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        for field, form in schema.get("properties", {}).items():
            if "examples" not in form:
                with suppress(LookupError):
                    form["examples"] = [_of_property(name, field, form, schemas)]
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                with suppress(LookupError):
                    parameter.setdefault("example", _of_property("", parameter["name"], parameter["schema"], schemas))


def _of_property(model: str, name: str, form: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """Raises LookupError if it has no example and nothing to make one from."""
    known = f"{re.sub('-(In|Out)put$', '', model)}.{name}"
    if known in EXAMPLES:
        return EXAMPLES[known]
    if name in EXAMPLES and _fits(EXAMPLES[name], form):
        return EXAMPLES[name]
    return _made(form, schemas)


def _made(form: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """An example of what the schema itself says."""
    if form.get("examples"):
        return form["examples"][0]
    if form.get("default") not in (None, "", [], {}):
        return form["default"]
    if "$ref" in form:
        name = form["$ref"].rpartition("/")[2]
        return _of_schema(name, schemas[name], schemas)
    if "const" in form:
        return form["const"]
    if "enum" in form:
        return form["enum"][0]
    for choice in (*form.get("anyOf", ()), *form.get("oneOf", ())):
        return _made(choice, schemas)
    if form.get("type") == "boolean":
        return True
    if "items" in form:
        return [_made(form["items"], schemas)]
    if isinstance(form.get("additionalProperties"), dict):
        return {EXAMPLES["task"]: _made(form["additionalProperties"], schemas)}
    raise LookupError


def _of_schema(name: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    if "properties" not in schema or schema.get("examples"):
        return _made(schema, schemas)
    made = {}
    for field, form in schema["properties"].items():
        with suppress(LookupError):
            made[field] = _of_property(name, field, form, schemas)
    return made


def _fits(value: Any, form: Mapping[str, Any]) -> bool:
    """Whether the type of ``value``, which holds no object of another schema, is one that the schema names."""
    forms = (form, *form.get("anyOf", ()))
    kinds = {kind for kind in (choice.get("type") for choice in forms) if kind}
    kind = _TYPES[type(value)]
    if kind == "array" and any("$ref" in choice.get("items", {}) for choice in forms):
        return False
    return kind in kinds or (kind == "integer" and "number" in kinds)
