"""MPA_REDIS_URL is read once, with clear errors that never show a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.settings import CommonSettings, read_settings
from shared.settings.redis_url import RedisAddress, add_password, hide_password, parse_redis_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", RedisAddress((("host", 6379),))),
        ("redis://host:6380/3", RedisAddress((("host", 6380),), db=3)),
        ("redis://host/?db=3", RedisAddress((("host", 6379),), db=3)),
        ("redis://:p%40ss@host/0", RedisAddress((("host", 6379),), password="p@ss")),
        ("redis://me:p%2Fs@[::1]:1/0", RedisAddress((("::1", 1),), username="me", password="p/s")),
        ("redis://me@host/0", RedisAddress((("host", 6379),), username="me")),
        ("unix:///run/redis.sock", RedisAddress(socket="/run/redis.sock")),
        (
            "unix://me:pw@/run/a%20b.sock?db=2",
            RedisAddress(socket="/run/a b.sock", username="me", password="pw", db=2),
        ),
        ("rediss://host", RedisAddress((("host", 6379),), tls=True)),
        (
            "rediss://host?ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k&ssl_check_hostname=False",
            RedisAddress(
                (("host", 6379),),
                tls=True,
                tls_options={
                    "ssl_ca_certs": "/ca.pem",
                    "ssl_certfile": "/c",
                    "ssl_keyfile": "/k",
                    "ssl_check_hostname": False,
                },
            ),
        ),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE",
            RedisAddress((("h", 6379),), tls=True, tls_options={"ssl_cert_reqs": "none"}),
        ),
        (
            "redis+sentinel://:pw@a,b:26380/main/4?sentinel_password=other",
            RedisAddress(
                (("a", 26379), ("b", 26380)),
                master="main",
                db=4,
                password="pw",
                sentinel_login={"password": "other"},
            ),
        ),
        ("rediss+sentinel://a/main", RedisAddress((("a", 26379),), master="main", tls=True)),
    ],
)
def test_an_address_is_read(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:6379", "write redis://host:port/0"),
        ("http://redis:6379", "write redis://host:port/0"),
        ("sentinel://a:26379/0", "redis\\+sentinel://host:port/master/0"),
        ("redis://host:port/0", "'redis://host:port/0' is not an address of Redis: Port could not be cast"),
        ("redis://:6379/0", "the host is missing"),
        ("redis://host/zero", "the database is 'zero': write a number"),
        ("redis://host/-1", "the database is '-1': write a number"),
        ("redis://host/0/1", "only the number of the database"),
        ("redis://host/0?ssl_ca_certs=/ca", "redis:// has no parameter 'ssl_ca_certs'; the known ones are db"),
        ("rediss://host/0?ssl_ca_cert=/ca", "no parameter 'ssl_ca_cert'; the known ones are db, ssl_ca_certs"),
        ("rediss://host/0?ssl_cert_reqs=optional", "ssl_cert_reqs is 'optional': write required or none"),
        ("rediss://host/0?ssl_check_hostname=maybe", "write true or false"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("redis+sentinel://a:26379", "name the master"),
        ("redis+sentinel://a:26379/main/0/1", "name the master"),
        ("redis+sentinel://a,,b/main", "the host is missing"),
        ("redis://:pa#ss@host/0", "write it as %23"),
    ],
)
def test_what_is_wrong_is_said(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:secret@host:port/0",
        "redis://:secret@/0",
        "rediss://me:secret@host/0?ssl=1",
        "redis://:secret@host/x",
        "me:secret@host:6379",
        "redis+sentinel://a/m/x?sentinel_password=secret",
    ],
)
def test_an_error_never_shows_a_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\*\*\*") as error:
        parse_redis_url(url)
    assert "secret" not in str(error.value)
    assert "secret" not in hide_password(url)


@given(
    st.text(min_size=1), st.sampled_from(["redis://h:1/2", "redis://me@h:1/2", "unix:///s", "redis+sentinel://a,b/m"])
)
def test_any_password_arrives(password: str, url: str) -> None:
    try:
        password.encode()
    except UnicodeEncodeError:
        return
    assert parse_redis_url(add_password(url, password)).password == password
    assert add_password("redis://me:own@h", password) == "redis://me:own@h"
    assert "secret" not in repr(parse_redis_url(add_password(url, f"secret{password}")))


def test_a_process_that_refuses_its_address_does_not_print_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MPA_REDIS_URL", "redis://me:secret@host:port/0")
    with pytest.raises(ValidationError) as error:
        CommonSettings()
    assert "secret" not in str(error.value)
    with pytest.raises(SystemExit):
        read_settings(CommonSettings)
    said = capsys.readouterr().err
    assert "MPA_REDIS_URL" in said and "redis://me:***@host:port/0" in said and "secret" not in said
