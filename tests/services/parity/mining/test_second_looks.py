"""What the teacher says of its own answer, in any language, keeps a pair or drops it."""

from __future__ import annotations

import asyncio

import pytest

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.limiter import Limiter
from services.parity.images.picture import Picture
from services.parity.mining.identifier import Identifier
from services.parity.mining.pairs import Answered
from services.parity.mining.second_looks import cross_check
from shared.client import ChatClient
from shared.contracts import Cause, IdentifierSpec, Verdict
from shared.images import to_data_url
from shared.vqa.tasks import load_profiles
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel, Text
from tests.services.parity.conftest import png


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        *((said, Verdict.REFUSED) for said in ("No.", "Nein.", "不是", "いいえ、答えていません", '{"answer": "no"}')),
        *((said, Verdict.DISPARITY) for said in ("yes", "Ja", "?", "vielleicht", "")),
    ],
)
async def test_a_refusal_that_no_list_knows_is_found_by_asking(said: str, verdict: Verdict) -> None:
    """The teacher answers in Klingon that it cannot see that. It is asked about would-be disparity pairs only."""

    def script(body: Body) -> list[str]:
        asked = body["messages"][-1]["content"]
        return [said if isinstance(asked, str) else "jIleghlaHbe'"] * body.get("n", 1)

    teacher, student = ScriptedModel(script, text_script=script), ScriptedModel(lambda body: ["red"])
    servers = [ServerThread(model.app()) for model in (teacher, student)]
    profile, picture = load_profiles()["textvqa"], Picture("1", to_data_url(png(1)))
    async with ChatClient(servers[0].url, model="t") as one, ChatClient(servers[1].url, model="s") as other:
        endpoints = [
            Endpoint(name, client, Limiter(name, 8), asyncio.Event()) for name, client in (("t", one), ("s", other))
        ]
        identifier = Identifier(endpoints[0], endpoints[1], IdentifierSpec(), seed=1)
        judged = await identifier.judge(Answered(0, "What does it say?", "jIleghlaHbe'"), picture, profile)
        assert judged.verdict is verdict and judged.cause is (Cause.DECLINED if verdict is Verdict.REFUSED else None)
        assert [len(teacher.requests), judged.spent.prompt] == [2, 20]
        assert ("the teacher says no" in judged.reason) == (verdict is Verdict.REFUSED)
        right = await identifier.judge(Answered(0, "What does it say?", "red"), picture, profile)
        assert right.verdict is Verdict.STUDENT_RIGHT and len(teacher.requests) == 2
        off = Identifier(endpoints[0], endpoints[1], IdentifierSpec(refusal_check=False), seed=1)
        kept = await off.judge(Answered(0, "What does it say?", "jIleghlaHbe'"), picture, profile)
        assert kept.verdict is Verdict.DISPARITY and len(teacher.requests) == 3
    for server in servers:
        server.stop()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        *(
            (said, None)
            for said in ("yes", "Ja, das stimmt.", "Oui", "Sí", "Да", "是的", "はい", "네", "<think>hm</think>Yes")
        ),
        *(
            (said, f"the teacher says {said!r}")
            for said in ("no", "Nein", "不对", "いいえ", "maybe", "The sign is red")
        ),
        ("", "is empty"),
        ({"content": "<think>hm", "finish_reason": "length"}, "still thinking after 96 tokens"),
    ],
)
async def test_only_a_yes_confirms_an_answer(said: Text, words: str | None) -> None:
    server = ServerThread(ScriptedModel(lambda body: [said]).app())
    async with ChatClient(server.url, model="t") as client:
        teacher = Endpoint("t", client, Limiter("t", 8), asyncio.Event())
        picture = Picture("1", to_data_url(png(1)))
        doubt, spent = await cross_check(
            teacher, Answered(0, "What is it?", "red"), picture, load_profiles()["textvqa"]
        )
    server.stop()
    assert spent.prompt >= 10
    if words is None:
        assert doubt is None
    else:
        assert doubt is not None and doubt.verdict is Verdict.TEACHER_INCONSISTENT and words in doubt.reason
