"""The tap in the running service: a setting turns it on, answered requests fill the pile, and it breaks none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.errors import UpstreamError
from shared.images.traffic import traffic_images
from shared.settings import StudentSettings
from shared.store import Store
from tests.polling import async_wait_until
from tests.services.student.small_replica import answer_of, ask, png, running


@pytest.fixture
def settings(tmp_path: Path, base: Path) -> StudentSettings:
    return StudentSettings(data_dir=tmp_path, student_model=str(base), redis_url="", student_tap_share=1.0)


def sampled(settings: StudentSettings) -> list[bytes]:
    store = Store(settings.store_url)
    return sorted(store.read(key) for key in traffic_images(store, "student"))


async def test_answered_requests_fill_the_pile_streamed_or_not(settings: StudentSettings) -> None:
    async with running(settings) as replica:
        await asyncio.gather(*(answer_of(replica.client, seed) for seed in (1, 2, 2)))
        body = ask(3, stream=True).model_dump(mode="json", exclude_none=True)
        async with httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http:
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        with pytest.raises(UpstreamError):
            await replica.client.chat(ask(4, max_tokens=10_000))
    assert sampled(settings) == sorted(png(seed) for seed in (1, 2, 3))


@pytest.mark.parametrize(
    "changes", [{"student_tap_share": 0.0}, {"student_tap_filter": "tests.services.student.tap_filters:broken"}]
)
async def test_nothing_is_kept_where_it_is_off_or_its_filter_fails(
    settings: StudentSettings, changes: dict[str, Any]
) -> None:
    async with running(settings, changes) as replica:
        assert (await answer_of(replica.client, 1))[0] == "base"
    assert sampled(settings) == []


async def test_a_store_that_cannot_be_written_fails_no_request(
    settings: StudentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> Any:
        raise OSError("no space left on device")

    async with running(settings) as replica:
        monkeypatch.setattr(Store, "create", full)
        assert (await answer_of(replica.client, 1))[0] == "base"

        async def failed() -> bool:
            async with httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http:
                return 'mpa_student_tap_samples_total{result="failed"} 1.0' in (await http.get("/metrics")).text

        await async_wait_until(failed)
        assert (await answer_of(replica.client, 2))[0] == "base"
