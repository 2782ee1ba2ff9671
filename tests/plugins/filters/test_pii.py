"""What leads to a person is replaced, and what only looks like it is not."""

from __future__ import annotations

import json
import lzma
import re
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.learned_components import PiiParams
from llmkit.plugins.filters.pii import Pii, luhn

SHARED = Path(__file__).parents[3] / "../shared/data"


def redacted(text: str, **params: str | None) -> str:
    return Pii(PiiParams(**params)).apply(Document("page", text)).text


EMAILS = [
    ("write to jane.doe+news@mail.example.co.uk today", "write to <EMAIL> today"),
    ("Jane <jane@example.org>, Joe <joe_1@example.org>.", "Jane <<EMAIL>>, Joe <<EMAIL>>."),
    ("mailto:o'brien@example.com?subject=x", "mailto:<EMAIL>?subject=x"),
    ("müller@münchen.de", "<EMAIL>"),
    ("a@xn--mnchen-3ya.xn--p1ai", "<EMAIL>"),
    ("联系 foo@example.com。", "联系 <EMAIL>。"),
    ("https://lists.example.org/list/dev@example.org/thread", "https://lists.example.org/list/<EMAIL>/thread"),
    ("first@example.com,second@example.com", "<EMAIL>,<EMAIL>"),
]
NO_EMAILS = [
    "@property",
    "x @ y",
    "a@b",
    "W@x.T",
    "user@localhost",
    "@handle on the net",
    "name@.com",
    "name.@example.com",
    "a@b..com",
    "@@",
]

CARDS = [
    # Test numbers that payment providers publish for these brands.
    ("4111111111111111", "<CARD>"),
    ("4222222222222", "<CARD>"),
    ("5555 5555 5555 4444", "<CARD>"),
    ("2223-0031-2200-3222", "<CARD>"),
    ("3782 822463 10005", "<CARD>"),
    ("371449635398431", "<CARD>"),
    ("6011111111111117", "<CARD>"),
    ("3056 930902 5904", "<CARD>"),
    ("3566002020360505", "<CARD>"),
    ("6200000000000005", "<CARD>"),
    ("6200 0000 0000 0000 000", "<CARD>"),
    ("card:4111 1111 1111 1111, cvv 123", "card:<CARD>, cvv 123"),
    ("4111 1111 1111 1111 123", "<CARD> 123"),
    ("no. 1234 4111 1111 1111 1111", "no. 1234 <CARD>"),
    ("4111111111111111.", "<CARD>."),
]
NO_CARDS = [
    "4111111111111112",  # check digit
    "1234567812345670",  # right check digit, and no brand's
    "41111111111111111111",
    "0.4111111111111111",
    "x4111111111111111",
    "4111-1111 1111-1111",
    "4111 1111 1111",
    "deadbeef4111111111111111",
    "4111111111111111e5",
    "3.4111111111111111",
]

IPS = [
    ("from 8.8.8.8 to 151.101.1.69:443", "from <IP> to <IP>:443"),
    ("http://93.184.215.14/x", "http://<IP>/x"),
    ("src=8.8.4.4;", "src=<IP>;"),
    ("8.8.8.0/24 and 8.8.8.8-8.8.8.9", "<IP>/24 and <IP>-<IP>"),
    ("2001:4860:4860::8888", "<IP>"),
    ("[2606:4700:4700::1111]:53", "[<IP>]:53"),
    ("2a00:1450:4001:081b:0000:0000:0000:200e: timed out", "<IP>: timed out"),
    ("::ffff:8.8.8.8", "<IP>"),
    ("The end is 8.8.8.8.", "The end is <IP>."),
]
NO_IPS = [
    "10.1.2.3 172.16.0.1 192.168.1.1 127.0.0.1 169.254.1.1 100.64.0.1",
    "0.0.0.0 255.255.255.255 224.0.0.1 240.0.0.1 192.0.2.7 198.51.100.7 203.0.113.7",
    "::1 :: fe80::1 fc00::1 2001:db8::1 ff02::1 ::ffff:192.168.0.1",
    "1.2.3.4.5 1.2.3 256.1.1.1 8.8.8.08 08.8.8.8 1.3.6.1.4.1.311",
    "version 1.2.3.4, v1.2.3.4, numpy>=1.2.3.4, numpy ~= 1.4.5.0, Section 4.3.2.1, § 8.7.6.5, kernel 2.6.18.6",
    "std::vector<int>::iterator a::b x[::2] 12:30:45 2023:: 2021:12:05:10:11",
]

PHONES = [
    ("+44 20 7946 0958", "<PHONE>"),
    ("+442079460958", "<PHONE>"),
    ("(+49) 30 123456", "<PHONE>"),
    ("(call +1 (415) 555-2671)", "(call <PHONE>)"),
    ("(+44 20 7946 0958)", "(<PHONE>)"),
    ("+44 (0)20 7946 0958", "<PHONE>"),
    ("0044 20 7946 0958", "<PHONE>"),
    ("(415) 555-2671 or 415-555-2671 or 415.555.2671", "<PHONE> or <PHONE> or <PHONE>"),
    ("1-800-555-0199", "<PHONE>"),
    ("Tel: 020 7946 0958, Fax (030) 123456-78", "Tel: <PHONE>, Fax <PHONE>"),
    ("phone no. 0711/123456", "phone no. <PHONE>"),
    ("mobile=5551234567", "mobile=<PHONE>"),
    ("12 May 2001 415-555-2671", "12 May 2001 <PHONE>"),
    ("+1 415 555 2671 2001", "<PHONE> 2001"),
    ("+33\u00a01\u00a023\u00a045\u00a067\u00a089", "<PHONE>"),
]
NO_PHONES = [
    "4155552671",
    "2001-07-05 12:30",
    "1914-1918, 1939-1945",
    "ISBN 978-3-16-148410-0",
    "3.14159265358979",
    "+999 123456789",
    "3+4 5 6 7 8 9 10",
    "+12345678",
    "1e+12345678",
    "1,000,000,000",
    "111-555-2671 911-555-2671",
    "telephone 1876",
    "-+- 123 456",
    "pages 100-200, 300-400",
]

FOUND = [("email", *row) for row in EMAILS] + [("card", *row) for row in CARDS] + [("ip", *row) for row in IPS]
FOUND += [("phone", *row) for row in PHONES]
LEFT = [("email", text) for text in NO_EMAILS] + [("card", text) for text in NO_CARDS] + [("ip", text) for text in NO_IPS]
LEFT += [("phone", text) for text in NO_PHONES]


@pytest.mark.parametrize(("kind", "text", "expected"), FOUND)
def test_a_hard_case_is_found_to_the_character(kind: str, text: str, expected: str) -> None:
    assert redacted(text) == expected
    assert redacted(text, **{kind: None}) != expected


@pytest.mark.parametrize(("kind", "text"), LEFT)
def test_what_only_looks_like_it_is_left_alone(kind: str, text: str) -> None:
    assert redacted(text) == text


def test_a_document_without_any_is_the_same_document() -> None:
    document = Document("page", "Nothing to see here, since 1984.")
    assert Pii(PiiParams()).apply(document) is document


def test_the_tag_is_the_users_and_each_kind_can_be_left_alone() -> None:
    text = "jane@example.org 4111111111111111 8.8.8.8 +44 20 7946 0958"
    assert redacted(text, email="[someone]", card="", ip=r"\1") == r"[someone]  \1 <PHONE>"
    assert redacted(text, email=None, card=None, ip=None, phone=None) == text


LENGTHS = {"4": 16, "51": 16, "2221": 16, "34": 15, "37": 15, "6011": 16, "65": 16, "3528": 16, "36": 14, "62": 19, "5018": 13}


def check_digit(digits: str) -> str:
    """By the table of the patent: the doubled digits cast out."""
    doubled = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    total = sum(doubled[int(digit)] if index % 2 == 0 else int(digit) for index, digit in enumerate(reversed(digits)))
    return str(-total % 10)


@given(prefix=st.sampled_from(sorted(LENGTHS)), rest=st.text("0123456789", min_size=19, max_size=19), gap=st.sampled_from(["", " ", "-"]))
@settings(max_examples=200, deadline=None)
def test_every_number_of_a_brand_with_its_check_digit_is_found_and_with_another_never(prefix: str, rest: str, gap: str) -> None:
    digits = (prefix + rest)[: LENGTHS[prefix] - 1]
    right = digits + check_digit(digits)
    wrong = digits + str((int(right[-1]) + 1 + int(rest[0]) % 9) % 10)
    cuts = (4, 10) if len(right) in (14, 15) else (4, 8, 12, 16)
    # Thirteen have no groups, and five groups of a wrong number may have four of a right one.
    assume(not gap or len(right) not in (13, 19))
    edges = [0, *(cut for cut in cuts if cut < len(right)), len(right)]
    text, other = (gap.join(number[start:stop] for start, stop in pairwise(edges)) for number in (right, wrong))
    assert luhn(right) and not luhn(wrong)
    assert redacted(f"paid with {text}, thanks", phone=None) == "paid with <CARD>, thanks"
    assert redacted(f"paid with {other}, thanks", phone=None) == f"paid with {other}, thanks"


# What the IANA registries of special-purpose addresses list as not globally reachable, and multicast.
SPECIAL = [
    ip_network("0.0.0.0/8"),
    ip_network("10.0.0.0/8"),
    ip_network("100.64.0.0/10"),
    ip_network("127.0.0.0/8"),
    ip_network("169.254.0.0/16"),
    ip_network("172.16.0.0/12"),
    ip_network("192.0.0.0/24"),
    ip_network("192.0.2.0/24"),
    ip_network("192.168.0.0/16"),
    ip_network("198.18.0.0/15"),
    ip_network("198.51.100.0/24"),
    ip_network("203.0.113.0/24"),
    ip_network("224.0.0.0/4"),
    ip_network("240.0.0.0/4"),
]


@given(number=st.one_of(st.integers(0, 2**32 - 1), st.sampled_from(SPECIAL).map(lambda network: int(network.network_address) + 1)))
@settings(max_examples=300, deadline=None)
def test_an_address_of_version_4_is_taken_away_exactly_where_it_is_public(number: int) -> None:
    written = str(ip_address(number))
    # Two addresses of 192.0.0.0/24 are reachable.
    assume(written not in ("192.0.0.9", "192.0.0.10"))
    public = not any(ip_address(number) in network for network in SPECIAL)
    assert redacted(f"from {written} on", phone=None) == ("from <IP> on" if public else f"from {written} on")


@given(number=st.integers(0x2A00 << 112, (0x2C00 << 112) - 1), form=st.sampled_from(["compressed", "exploded"]))
@settings(max_examples=100, deadline=None)
def test_a_public_address_of_version_6_is_found_in_both_forms(number: int, form: str) -> None:
    # One group and a double colon is rather the end of a sentence in reStructuredText: 2023::
    assume(number % 2**112)
    assert redacted(f"from {getattr(ip_address(number), form)} on", phone=None) == "from <IP> on"


@given(text=st.text(st.sampled_from("0123456789 .-+()@:abAB/x=\n"), max_size=120))
@settings(max_examples=300, deadline=None)
def test_what_is_redacted_has_nothing_left_to_redact(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once
    kept = re.split("<EMAIL>|<IP>|<PHONE>|<CARD>", once)
    place = 0
    for piece in kept:
        place = text.find(piece, place)
        assert place >= 0
        place += len(piece)


@pytest.mark.parametrize("piece", ["@", "a@", "1 ", "1.", "(1", "+1 ", "00 ", "4111 ", "2::", ":", "tel ", "a.@b.", "1-"])
def test_no_text_makes_it_slow(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    redacted(text)


def test_example_numbers_of_libphonenumber_are_found_as_they_are_dialled_from_abroad() -> None:
    phonenumbers = pytest.importorskip("phonenumbers")
    forms = (phonenumbers.PhoneNumberFormat.E164, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    numbers = [phonenumbers.example_number(region) for region in sorted(phonenumbers.SUPPORTED_REGIONS)]
    written = [phonenumbers.format_number(number, form) for number in numbers for form in forms]
    missed = [number for number in written if redacted(f"call {number}, please") != "call <PHONE>, please"]
    assert len(written) > 480
    # Saint Helena, Niue and Tokelau have four and five digits behind the country code.
    assert {number[:4] for number in missed} <= {"+290", "+683", "+690"}


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_a_proposal_loses_the_addresses_of_its_authors_and_nothing_else() -> None:
    with lzma.open(SHARED / "peps/peps.jsonl.xz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file][::10]
    for text in texts:
        after = redacted(text)
        assert after.count("<EMAIL>") == len(re.findall(r"[\w.+%-]+@(?:[\w-]+\.)+[A-Za-z]{2,}\b(?!@)", text))
        assert "<CARD>" not in after and "<PHONE>" not in after
