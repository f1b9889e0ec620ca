"""Templates: found by name, checked at acceptance, rendered once."""

import json
from pathlib import Path
from typing import Any

import pytest

from heartcast.core.errors import InvalidInput, NotFound, SettingsError
from heartcast.push.templates import RenderingFailed, load

EVERY_TYPE = """
title = "{{ s }} {{ i + 1 }} {{ n }} {{ b }} {{ l|length }} {{ o.k }} {{ a }}"
[fields]
s = { type = "string", required = true, max_length = 3 }
i = { type = "integer", default = 4 }
n = { type = "number" }
b = { type = "boolean" }
l = { type = "list" }
o = { type = "object", default = { k = "v" } }
a = { type = "any" }
"""


def render(folder: Path, text: str, payload: dict[str, Any], name: str = "mine") -> dict[str, Any]:
    (folder / "mine.toml").write_text(text)
    template = load(folder).find(name)
    template.check(payload)
    return json.loads(template.render("ID", json.dumps(payload).encode(), 5))  # type: ignore[no-any-return]


def test_the_starter_set_is_there_without_any_file() -> None:
    assert load().names() == ["digest", "hearted", "message", "news_v2"]


def test_own_templates_stand_in_front_of_the_starters(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "news_v2"\ntitle = "own"')
    (tmp_path / "b.toml").write_text('name = "news_v2"\nversion = 3\ntitle = "third"')
    (tmp_path / "c.toml").write_text('name = "odd@2"\ntitle = "odd"')
    (tmp_path / "notes.txt").write_text("not a template")
    templates = load(tmp_path)

    def title(name: str) -> str:
        return json.loads(templates.find(name).render("ID", b"{}", 0))["title"]  # type: ignore[no-any-return]

    assert title("news_v2") == "third"
    assert title("news_v2@1") == "own"
    assert title("odd@2") == title("odd@2@1") == "odd"
    with pytest.raises(NotFound):
        templates.find("news_v2@2")


def test_every_type_has_a_value_when_it_is_left_out(tmp_path: Path) -> None:
    assert render(tmp_path, EVERY_TYPE, {"s": "x"})["title"] == "x 5 0.0 False 0 v None"
    payload = {"s": "x", "i": 1, "n": 2.5, "b": True, "l": [1], "o": {"k": 9}, "a": "z"}
    assert render(tmp_path, EVERY_TYPE, payload)["title"] == "x 2 2.5 True 1 9 z"


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        ({}, "/payload/s"),
        ({"i": 1}, "/payload/s"),
        ({"s": "long"}, "/payload/s"),
        ({"s": None}, "/payload/s"),
        ({"s": "x", "i": 1.5}, "/payload/i"),
        ({"s": "x", "i": True}, "/payload/i"),
        ({"s": "x", "n": "1"}, "/payload/n"),
        ({"s": "x", "b": 1}, "/payload/b"),
        ({"s": "x", "l": {}}, "/payload/l"),
        ({"s": "x", "o": []}, "/payload/o"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_at_its_field(
    tmp_path: Path, payload: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        render(tmp_path, EVERY_TYPE, payload)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("title = ", "Invalid value"),
        ('body = "no title"', "title"),
        ('title = "{{ x }}"', r"uses \['x'\]"),
        ('title = "{{ x"', "line 1"),
        ('title = "x"\ntitel = "y"', "titel"),
        ('title = "x"\n[fields.a]\ntype = "text"', "text"),
        ('title = "x"\nversion = "two"', "version"),
        ('title = "x"\n[fields.a]\nmax_length = -1', "max_length"),
    ],
)
def test_a_file_that_is_no_template_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "broken.toml").write_text(text)
    with pytest.raises(SettingsError, match=complaint) as caught:
        load(tmp_path)
    assert caught.value.path == "templates/broken.toml"


@pytest.mark.parametrize(
    "title",
    [
        "{{ x.__class__.__mro__ }}",
        "{{ x.append(1) or x.pop() }}",
        "{% for i in range(10000000) %}a{% endfor %}{{ x }}",
        "{{ x.missing }}",
        "{% for a in range(90000) %}{{ x }}{% endfor %}",
    ],
)
def test_a_template_that_misbehaves_fails_its_own_push_only(tmp_path: Path, title: str) -> None:
    text = f"title = {json.dumps(title)}\n[fields]\nx = {{ type = 'list', required = true }}"
    with pytest.raises(RenderingFailed, match="mine@1"):
        render(tmp_path, text, {"x": [1]})


def test_the_payload_travels_untouched_and_texts_are_not_escaped(tmp_path: Path) -> None:
    payload = {"title": 'a <b> & "c"\n€', "more": {"deep": [1, None]}}
    template = load().find("news_v2")
    data = template.render("ID", json.dumps(payload).encode(), 7)
    assert json.loads(data)["title"] == payload["title"]
    assert json.loads(data)["payload"] == payload
    assert b"\n" not in data
