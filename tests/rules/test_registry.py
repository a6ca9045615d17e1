import numpy as np
import pytest

from tinyattn.rules.registry import numpy_like, parameters, rule

pytestmark = pytest.mark.usefixtures("own_rules")


def result(x):
    return x, lambda d_output: (d_output,)


def test_a_rule_is_returned_as_it_was():
    def tripled(x):
        return 3 * x, lambda d_output: (3 * d_output,)

    assert rule(tripled) is tripled


def test_a_name_is_given_once():
    def softmax(x):
        return result(x)

    with pytest.raises(ValueError, match=r"there is a rule named 'softmax' already, in tinyattn\.rules\.softmax"):
        rule(softmax)


def test_the_same_function_defined_again_replaces_itself():
    def define():
        def tripled(x):
            return result(x)

        return rule(tripled)

    first, second = define(), define()
    assert first is not second
    assert parameters(second).arrays == ("x",)


def test_arrays_stand_before_the_star_and_options_after_it():
    @rule
    def shifted(x, y, z=None, *, by=1.0, axis=None):
        return result(x)

    found = parameters(shifted)
    assert found == (("x", "y", "z"), ("x", "y"), ("by", "axis"), False, 0)


def test_a_rule_may_say_how_many_arrays_it_has():
    @rule(arrays=1)
    def shifted(x, axis=None, *, keepdims=False):
        return result(x)

    assert parameters(shifted) == (("x",), ("x",), ("axis", "keepdims"), False, 1)


def test_any_number_of_arrays():
    @rule
    def joined(*arrays, axis=0):
        return result(arrays[0])

    assert parameters(joined) == (("arrays",), ("arrays",), ("axis",), True, 1)


def test_a_rule_needs_an_array():
    def lonely(*, axis):
        return result(axis)

    with pytest.raises(TypeError, match="lonely has no array among its parameters"):
        rule(lonely)


def test_an_array_may_be_left_out_with_none_only():
    def shifted(x, by=1.0):
        return result(x)

    with pytest.raises(TypeError, match=r"shifted can leave an array out with None only; options stand after `\*`"):
        rule(shifted)


def test_numpy_like_asks_what_is_no_array_to_handle_the_call():
    @numpy_like("doubled")
    def double(x, by):
        return x * by

    class Foreign:
        def __array_function__(self, function, types, args, given):
            return function.__name__, types, args[1:], given

    assert double(np.float64(3.0), 2) == 6.0
    assert double(Foreign(), by=2) == ("doubled", (Foreign,), (), {"by": 2})
