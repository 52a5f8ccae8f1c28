"""domains/v1: which host a URL names, however the URL is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.audits.domains import MAX_URL, host_of, is_listed

SAME = "www.example.org"


@pytest.mark.parametrize(
    "url",
    [
        "https://www.example.org/p/1?q#f",
        "HTTPS://WWW.EXAMPLE.ORG",
        "http:www.example.org",
        "http:/www.example.org/",
        "http:\\\\www.example.org\\p",
        "//www.example.org/p",
        "ftp://www.example.org",
        "gemini://www.example.org/p",
        "https://www.example.org.",
        "https://www.example.org:8443/",
        "https://www.example.org:/",
        "https://user@www.example.org/",
        "https://other.test@www.example.org/@x",
        "https://user:pass@www.example.org:80/",
        "https://www%2eexample.org/",
        "https://%77ww.example.org/",
        "https://www\u3002example\uff0eorg/",
        "https://ｗｗｗ.ｅｘａｍｐｌｅ.ｏｒｇ",
        "https://www.exam\u00adple.org/",
        "https://www.exam\u200bple.org/",
        " \x00https://www.exam\nple.org/\t",
        "www.example.org/p",
        "www.example.org",
        "www.example.org:80",
        "www.example.org?x=http://other.test",
    ],
)
def test_one_host_is_found_in_every_writing(url: str) -> None:
    assert host_of(url) == SAME


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://bücher.example", "xn--bcher-kva.example"),
        ("https://BÜCHER.example", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://straße.de", "xn--strae-oqa.de"),
        ("https://192.0.2.7/x", "192.0.2.7"),
        ("https://[2001:DB8::1]:443/x", "[2001:db8::1]"),
        ("https://localhost/", "localhost"),
        ("https://a_b.example", "a_b.example"),
    ],
)
def test_hosts_have_one_form(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "https://", "https:///", "http://?x", "word", "two words.org", "mailto:a@b.org",
        "a@b.org", "javascript:alert(1)", "/path/only.html", "https://-a.org", "https://a..org",
        "https://a b.org/", f"https://{'a' * 64}.org", f"https://{'ü' * 64}.org",
        f"https://{'a.' * 130}org", "https://1.2.3", "https://256.1.1.1", "https://0x7f.1",
        "https://%ff.org", "https://a%20b.org", "https://[::1",
        "https://a.org" + "/" * MAX_URL, "data:text/plain,x",
        f"https://{'%61' * 400}.org",
    ],
)  # fmt: skip
def test_what_is_no_url_has_no_host(text: str) -> None:
    assert host_of(text) is None


@given(st.text("ahtps:/.@-_%?# A1\n\u3002", max_size=30))
def test_the_short_way_of_plain_urls_gives_the_same_hosts(rest: str) -> None:
    # A space in front is dropped; such a URL takes the slow path.
    for url in (f"https://{rest}", f"http://a.{rest}"):
        assert host_of(url) == host_of(f" {url}")


def test_a_domain_stands_for_what_lies_in_it() -> None:
    listed = frozenset(("example.org", "co.uk"))
    assert is_listed("example.org", listed)
    assert is_listed("a.b.example.org", listed)
    assert is_listed("x.co.uk", listed)
    assert not is_listed("notexample.org", listed)
    assert not is_listed("org", listed)
    assert not is_listed("example.org.evil.test", listed)
