"""YAML as people write it, and as somebody may write it who means harm."""

import time

import pytest
import yaml

from landscape.app.yamlfiles import parse_yaml


def test_numbers_ranges_dates_and_anchors():
    text = "base: &base {lr: 5e-4, x: -1:1:51}\nown:\n  <<: *base\n  since: 2020-01-02\nlist: [*base, 0x1f]"
    base = {"lr": 5e-4, "x": "-1:1:51"}
    assert parse_yaml(text) == {"base": base, "own": {**base, "since": "2020-01-02"}, "list": [base, "0x1f"]}


def laughs(levels, line):
    """Each level holds nine times the one before."""
    lines = ["l0: &l0 {a: 1, b: 2, c: 3}"]
    lines += [f"l{i}: &l{i} {line.format(', '.join([f'*l{i - 1}'] * 9))}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "refers to itself"),
        ("a: &a {b: {c: *a}}", "refers to itself"),
        (laughs(12, "[{}]"), "more than 100000 values"),
        (laughs(12, "{{<<: [{}]}}"), "more than 100000 values"),
        ("{a: " * 2000, "nested too deeply"),
        ("a: !!binary aGVsbG8=", "it holds a bytes"),
        ("a: !!set {x, y}", "it holds a set"),
        ("a: !!timestamp 2020-01-01", "it holds a date"),
        ("a: !!int hello", "invalid literal"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("? [a]\n: b", "unhashable"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_no_plain_document_is_refused_at_once(text, message):
    started = time.monotonic()
    with pytest.raises(yaml.YAMLError, match=message):
        parse_yaml(text)
    assert time.monotonic() - started < 5
