"""Values in, checked parameters out: nothing but a BadParameter ever leaves."""

import math
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.api.contract import FIELDS, credits_text, largest_upscale
from server.api.fields import Field
from server.api.json_bodies import json_values
from server.api.parameters import Parameters, parse, with_settings
from server.errors import BadParameter
from server.settings import Settings

SETTINGS = Settings()
BASE = {"image": "aaaa", "prompt": "x", "denoise": 0.4}
RANGED = [with_settings(f, SETTINGS) for f in FIELDS if f.low is not None and f.high is not None]


def read(**values: object) -> Parameters:
    return parse(BASE | values, SETTINGS)


def parsed(parameters: Parameters, field: Field) -> object:
    """What became of a field that bears a number; None of others."""
    options = parameters.options
    parts = (options.recipe, options.selection, options.encoding)
    return next((getattr(part, field.name) for part in parts if hasattr(part, field.name)), None)


@pytest.mark.parametrize("value", [25, 25.0, "25", " 25 ", "25.0", "2.5e1", "+25"])
def test_whole_numbers(value):
    steps = read(num_inference_steps=value).options.recipe.num_inference_steps
    assert (steps, type(steps)) == (25, int)


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0", "7."])
def test_floats(value):
    scale = read(guidance_scale=value).options.recipe.guidance_scale
    assert (scale, type(scale)) == (7.0, float)


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE", 1, 1.0, "1", "1.0", "yes", " on "])
def test_true(value):
    assert read(base64=value).as_base64 is True


@pytest.mark.parametrize("value", [False, "false", "False", 0, 0.0, "0", "no", "off"])
def test_false(value):
    assert read(base64=value).as_base64 is False


@pytest.mark.parametrize("value", [4, 4.0, "4", "4.0"])
def test_an_upscale_is_a_number(value):
    assert read(upscale=value).options.recipe.upscale == 4


@pytest.mark.parametrize("value", ["PNG", " png "])
def test_choices_whatever_the_case(value):
    assert read(image_format=value).options.encoding.image_format == "png"


@pytest.mark.parametrize("field", RANGED, ids=lambda field: field.name)
def test_the_ends_of_a_range_belong_to_it(field):
    for value in (field.low, field.high):
        assert parsed(read(**{field.name: value}), field) == value
    beyond = (field.low - 1, field.high + 1, math.nextafter(field.high, math.inf))
    for value in beyond:
        with pytest.raises(BadParameter, match=f"{field.name} should be between"):
            read(**{field.name: value})


@pytest.mark.parametrize("field", [f for f in FIELDS if f.setting], ids=lambda f: f.name)
def test_every_setting_of_the_table_exists(field):
    assert field.setting in Settings.model_fields
    assert field.default is None


def test_the_servers_own_defaults_are_settings():
    own = Settings(upscale=4, max_faces=3, min_face_px=33, detection_threshold=0.7)
    options = parse(BASE, own).options
    assert (options.recipe.upscale, options.selection.max_faces) == (4, 3)
    assert (options.selection.min_face_px, options.selection.detection_threshold) == (33, 0.7)


def test_null_is_absent_for_optional_fields():
    nothing = {field.name: None for field in FIELDS if not field.required}
    assert read(**nothing) == read()


def test_half_a_surrogate_pair_cannot_reach_a_tokenizer():
    assert read(prompt="a\ud800b").options.recipe.prompt == "a?b"


@pytest.mark.parametrize("kind", [str, str.encode])
def test_texts_have_an_end(kind):
    assert len(read(prompt=kind("é" * 65_536)).options.recipe.prompt) == 65_536
    with pytest.raises(BadParameter, match=r"^prompt should have at most 65,536 characters$"):
        read(prompt=kind("é" * 65_537))


def test_so_have_those_that_json_left_where_they_came():
    body = bytearray(b'{"negative_prompt": "%b"}' % (b"a" * 2**21))
    with pytest.raises(BadParameter, match=r"^negative_prompt should have at most 65,536 char"):
        read(**json_values(body))


texts = st.text(st.sampled_from("0123456789.-+eE_ naif tru\ud800é\0"), max_size=8)
plain = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=4)
values = plain | st.integers().map(str) | st.floats().map(str) | st.lists(plain, max_size=2)
names = st.sampled_from([field.name for field in FIELDS])
# How long a draw takes says nothing here: the machine may be busy.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.dictionaries(names, values, max_size=5))
def test_any_values_are_parsed_or_refused(values):
    try:
        parameters = parse(BASE | values, SETTINGS)
    except BadParameter:
        return
    assert 0 <= parameters.options.recipe.seed < 2**63
    assert 1 <= parameters.options.selection.affordable <= SETTINGS.max_request_steps
    for field in RANGED:
        value = parsed(parameters, field)
        if value is not None:
            assert field.low <= value <= field.high


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("615.9801263243", "615.9801263243"),
        ("12.50", "12.5"),
        ("100", "100.0"),
        ("1E+3", "1000.0"),
        ("0", "0.0"),
        ("1E-10", "0.0000000001"),
        ("900000000", "900000000.0"),
    ],
)
def test_credits_are_decimals_without_exponent(amount, text):
    assert credits_text(Decimal(amount)) == text


@patient
@given(st.sampled_from([1, 2, 4]), st.integers(1, 9000))
def test_the_upscale_never_passes_the_limit(asked, side_px):
    factor = largest_upscale(asked, side_px, 8192)
    assert factor == 1 or factor * side_px <= 8192
    assert factor <= asked
    assert factor == asked or side_px * factor * 2 > 8192
