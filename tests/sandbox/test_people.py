import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import people

PEOPLE = [people.person(random.Random(seed)) for seed in range(2_000)]


@given(st.from_regex(r"[0-9]{9}", fullmatch=True))
def test_check_digits_follow_the_federal_rule(nine: str):
    digits = [int(digit) for digit in people.with_check_digits(nine)]
    for length in (9, 10):
        weighted = sum(digit * weight for digit, weight in zip(digits, range(length + 1, 1, -1), strict=False))
        assert digits[length] == weighted * 10 % 11 % 10


@pytest.mark.parametrize("cpf", ["11144477735", "52998224725", "00000000191", "12345678909"])
def test_check_digits_of_known_numbers(cpf: str):
    assert people.with_check_digits(cpf[:9]) == cpf


def test_people_are_repeatable_and_differ():
    assert people.person(random.Random(5)) == PEOPLE[5]
    assert len({person["cpf"] for person in PEOPLE}) == len(PEOPLE)


def test_values_have_the_shapes_that_people_type():
    for person in PEOPLE:
        assert re.fullmatch(r"\d{11}|\d{3}\.\d{3}\.\d{3}-\d{2}", person["cpf"])
        assert re.fullmatch(r" ?[A-Za-z.]+\d+@[A-Za-z-]+\.[Ee][Xx][Aa][Mm][Pp][Ll][Ee] ?", person["email"])
        assert person["telefone"] is None or re.fullmatch(r"(55)?\d{2}9\d{8}", re.sub(r"\D", "", person["telefone"]))
        assert person["status"] in people.STATUSES


def test_addresses_belong_together():
    states = {city: (state, prefix) for city, state, _, prefix in people.CITIES}
    for person in PEOPLE:
        if person["cidade"] is None:
            assert person["uf"] is person["cep"] is None
        else:
            state, prefix = states[person["cidade"]]
            assert person["uf"] == state
            assert re.fullmatch(rf"{prefix}\d\d-?\d{{3}}", person["cep"])
    assert len({person["uf"] for person in PEOPLE} - {None}) == 27


def test_what_makes_people_hard_to_handle_occurs():
    def share(condition) -> float:
        return sum(map(condition, PEOPLE)) / len(PEOPLE)

    assert 0.05 < share(lambda person: person["email"] != person["email"].lower()) < 0.2
    assert 0.02 < share(lambda person: person["email"] != person["email"].strip()) < 0.1
    assert 0.1 < share(lambda person: person["nome"] in (person["observacoes"] or "")) < 0.3
    assert 0.02 < share(lambda person: (person["telefone"] or "no phone") in (person["observacoes"] or "")) < 0.2
    assert 0.002 < share(lambda person: len(person["observacoes"] or "") > 2_000) < 0.02
    for column in ("telefone", "data_nascimento", "cep", "renda_mensal", "observacoes"):
        assert 0 < share(lambda person, column=column: person[column] is None) < 1
