"""The traffic tap: what it samples, what it leaves out, and that nothing it meets reaches a request."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from services.student.engines.base import Conversation
from services.student.tap import TrafficTap, load_filter
from services.student.tap import tap as tap_module
from services.student.tap.pile import TrafficPile
from shared.contracts import ChatMessage, ImagePart, ImageURL, TextPart
from shared.errors import InvalidInput
from shared.images import to_data_url
from shared.images.traffic import HOUR_FORMAT, traffic_images
from shared.settings import StudentSettings
from shared.store import Store
from tests.polling import wait_until

FILTERS = "tests.services.student.tap_filters"


def png(number: int = 0, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def question(*images: bytes, text: str = "what is this?") -> Conversation:
    parts = [ImagePart(type="image_url", image_url=ImageURL(url=to_data_url(data))) for data in images]
    return Conversation((ChatMessage(role="user", content=[*parts, TextPart(type="text", text=text)]),), ())


class Tapped:
    """A tap on a store, and what it made of the samples."""

    def __init__(self, store: Store, tap: TrafficTap, metrics: CollectorRegistry) -> None:
        self.store, self.tap, self._metrics = store, tap, metrics

    def count(self, result: str) -> float:
        return self._metrics.get_sample_value("mpa_student_tap_samples_total", {"result": result}) or 0.0

    def taken(self, samples: int) -> None:
        """Wait until so many have been dealt with."""
        results = ("stored", "full", "filtered", "failed")
        wait_until(lambda: sum(map(self.count, results)) >= samples)

    def images(self) -> list[bytes]:
        return [self.store.read(key) for key in traffic_images(self.store, "student")]

    def questions(self) -> list[dict[str, Any]]:
        return [json.loads(self.store.read(k)) for k in self.store.list("traffic/student") if k.endswith(".json")]


@contextmanager
def tapping(store: Store, **settings: Any) -> Iterator[Tapped]:
    metrics = CollectorRegistry()
    tap = TrafficTap(StudentSettings(**{"student_tap_share": 1.0, **settings}), store, metrics)
    try:
        yield Tapped(store, tap, metrics)
    finally:
        asyncio.run(tap.aclose())


@pytest.fixture
def store(tmp_store_url: str) -> Store:
    return Store(tmp_store_url)


def test_images_are_kept_as_they_came_once_each_and_without_questions(store: Store) -> None:
    with tapping(store) as tapped:
        for _ in range(3):
            tapped.tap.offer(question(png(1), png(2)), "base")
        tapped.tap.offer(question(text="no image here"), "base")
        tapped.taken(3)
        assert sorted(tapped.images()) == sorted([png(1), png(2)])
        assert tapped.questions() == []


def test_questions_are_kept_where_they_are_wanted(store: Store) -> None:
    with tapping(store, student_tap_questions=True) as tapped:
        tapped.tap.offer(question(png(), text="who is Ann?"), "job-a")
        tapped.taken(1)
        (record,) = tapped.questions()
        assert (record["question"], record["checkpoint"]) == ("who is Ann?", "job-a")
        (key,) = traffic_images(store, "student")
        assert key.endswith(f"/{record['image']}")


def test_it_is_off_unless_asked_for(store: Store) -> None:
    assert StudentSettings().student_tap_share == 0
    with tapping(store, student_tap_share=0.0) as tapped:
        tapped.tap.offer(question(png()), "base")
    assert store.list("traffic/student") == []


def test_a_share_of_the_requests_is_sampled(store: Store) -> None:
    with tapping(store, student_tap_share=0.25) as tapped:
        for _ in range(4):  # in rounds, so that the queue never fills
            for number in range(100):
                tapped.tap.offer(question(png(number)), "base")
            wait_until(tapped.tap._queue.empty)
        assert 50 < tapped.count("stored") < 160  # 100 expected; outside this once in 10^7 runs


def test_what_waits_at_the_end_is_written(store: Store) -> None:
    with tapping(store) as tapped:
        for number in range(20):
            tapped.tap.offer(question(png(number)), "base")
    assert len(tapped.images()) == 20


def test_a_filter_sees_everything_first(store: Store) -> None:
    with tapping(store, student_tap_filter=f"{FILTERS}:drop_secrets", student_tap_questions=True) as tapped:
        tapped.tap.offer(question(png(1), text="is this Ann?"), "base")
        tapped.tap.offer(question(png(2), text="read my password"), "base")
        tapped.taken(2)
        (kept,) = tapped.images()
        assert Image.open(io.BytesIO(kept)).size == (4, 4)
        assert [record["question"] for record in tapped.questions()] == ["is this someone?"]
        assert (tapped.count("stored"), tapped.count("filtered")) == (1, 1)


def test_a_filter_adds_no_words_where_questions_are_not_wanted(store: Store) -> None:
    with tapping(store, student_tap_filter=f"{FILTERS}:chatty") as tapped:
        tapped.tap.offer(question(png()), "base")
        tapped.taken(1)
        assert len(tapped.images()) == 1 and tapped.questions() == []


def test_a_filter_that_fails_keeps_the_image_out_and_the_tap_going(store: Store) -> None:
    with tapping(store, student_tap_filter=f"{FILTERS}:broken") as tapped:
        for number in range(2):
            tapped.tap.offer(question(png(number)), "base")
        tapped.taken(2)
        assert tapped.count("failed") == 2 and tapped.images() == []


def test_the_ready_made_filter_drops_metadata(store: Store) -> None:
    image = Image.new("RGB", (8, 8), (200, 30, 30))
    exif = Image.Exif()
    exif[0x010E] = "at home"
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, comment=b"private", icc_profile=b"profile")
    with tapping(store, student_tap_filter="services.student.tap:without_metadata") as tapped:
        tapped.tap.offer(question(file.getvalue()), "base")
        tapped.taken(1)
        (kept,) = tapped.images()
    assert Image.open(io.BytesIO(kept)).info == {}
    assert b"at home" not in kept and b"private" not in kept and b"profile" not in kept


@pytest.mark.parametrize("name", ["nowhere:f", f"{FILTERS}:missing", f"{FILTERS}:NO_FUNCTION", "no-colon", ":f"])
def test_a_filter_that_cannot_be_had_stops_the_start(name: str) -> None:
    with pytest.raises(InvalidInput, match="MPA_STUDENT_TAP_FILTER"):
        load_filter(name)


def test_a_slow_store_makes_no_request_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs: what fits into the queue waits, the rest is left out, and `offer` always comes back."""
    go, begun = threading.Event(), threading.Event()
    create = Store.create

    def hang(self: Store, key: str, data: bytes) -> bool:
        begun.set()
        go.wait(30)
        return create(self, key, data)

    monkeypatch.setattr(Store, "create", hang)
    with tapping(store) as tapped:
        tapped.tap.offer(question(png(0)), "base")
        assert begun.wait(10)
        for number in range(tap_module.QUEUE_SIZE + 5):
            tapped.tap.offer(question(png(number)), "base")
        assert tapped.count("left_out") == 5
        go.set()
        tapped.taken(tap_module.QUEUE_SIZE + 1)


def test_the_queue_is_bounded_in_bytes_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "QUEUE_BYTES", 3000)
    with tapping(store) as tapped:
        tapped.tap.offer(question(png() + bytes(5000)), "base")
        assert tapped.count("left_out") == 1
        for number in range(30):  # room comes back once a sample is written
            tapped.tap.offer(question(png(number)), "base")
            wait_until(lambda: tapped.tap._waiting_bytes == 0)
        assert tapped.count("left_out") == 1 and len(tapped.images()) == 30


def test_a_store_that_is_away_fails_samples_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any) -> Any:
        raise OSError("the store is away")

    with tapping(store) as tapped:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "create", away)
            patch.setattr(Store, "list_dirs", away)
            tapped.tap.offer(question(png(1)), "base")
            tapped.taken(1)
        tapped.tap.offer(question(png(2)), "base")
        tapped.taken(2)
        assert tapped.images() == [png(2)] and tapped.count("failed") == 1


def hour(hours_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours_ago)).strftime(HOUR_FORMAT)


def fill(store: Store, hours_ago: float, size: int) -> str:
    key = f"traffic/student/{hour(hours_ago)}/{'0' * 64}.png"
    store.write(key, bytes(size))
    return key


def pile(store: Store, max_bytes: int = 10_000) -> TrafficPile:
    return TrafficPile(store, "student", max_bytes=max_bytes, max_age=timedelta(hours=24))


def test_hours_that_are_too_old_are_deleted(store: Store) -> None:
    old, young = fill(store, 26, 10), fill(store, 22, 10)
    pile(store).tidy()
    assert not store.exists(old) and store.exists(young)


def test_a_full_pile_loses_its_oldest_hours_first(store: Store) -> None:
    oldest, middle, young = (fill(store, ago, 4_000) for ago in (6, 4, 2))
    assert pile(store).put(png() + bytes(1_000), None, "base")
    assert [store.exists(key) for key in (oldest, middle, young)] == [False, True, True]
    assert store.size("traffic/student") <= 10_000


def test_the_present_hour_is_never_deleted_and_never_too_large(store: Store) -> None:
    full = pile(store, 5_000)
    results = [full.put(png(number) + bytes(900), None, "base") for number in range(10)]
    assert results == sorted(results, reverse=True) and 3 <= sum(results) < 6
    assert len(list(traffic_images(store, "student"))) == sum(results)
    assert store.size("traffic/student") <= 5_000


def test_a_pile_that_cannot_make_room_is_not_listed_for_every_sample(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, list_dirs = [], Store.list_dirs

    def counted(self: Store, prefix: str) -> list[str]:
        looks.append(prefix)
        return list_dirs(self, prefix)

    monkeypatch.setattr(Store, "list_dirs", counted)
    full = pile(store, 100)
    assert not any(full.put(png(number) + bytes(200), None, "base") for number in range(20))
    assert len(looks) <= 2


def test_jobs_see_each_image_once_and_nothing_older_than_they_ask_for(store: Store, tmp_path: Path) -> None:
    early = fill(store, 5, 10)
    again, late = fill(store, 3, 10), f"traffic/student/{hour(3)}/{'1' * 64}.jpg"
    store.write(late, b"x")
    store.write(f"traffic/student/{hour(3)}/{'1' * 64}-ab.json", b"{}")
    store.write(f"traffic/other/{hour(3)}/{'2' * 64}.png", b"x")
    assert list(traffic_images(store, "student")) == [early, late]
    assert list(traffic_images(store, "student", datetime.now(UTC) - timedelta(hours=4))) == [again, late]
    assert list(traffic_images(Store((tmp_path / "none").as_uri()), "student")) == []
