"""The policy, in one place: the classes of personal data, what masks each, and who may read each layer.

A column names its class in `config.meta.pii` where it first appears; every column that descends from it inherits the
class. `none` is for what is parsed out of a document and was found to be nobody's: it clears a document, nothing else.
"""

import re

DOCUMENT, SECRET, NONE = "document", "secret", "none"

# What may leave curated: class -> the masking macros (dbt_project/macros/masking) and breakers (below) that fit it.
# A pseudonym fits what names one person among all. It does not fit a value that few share or many could guess, such as
# a date of birth: there it would be a code for the value itself, on which groups can be told apart.
ALLOWED: dict[str, frozenset[str]] = {
    DOCUMENT: frozenset(),  # a record as its source sent it: anything may be in it
    SECRET: frozenset(),  # the masking key's pads: in no table at all
    "free_text": frozenset(),
    "identifier": frozenset({"pseudonym"}),
    "name": frozenset({"pseudonym", "mask_initials"}),
    "email": frozenset({"pseudonym", "mask_email"}),
    "cpf": frozenset({"pseudonym", "mask_cpf"}),
    "phone": frozenset({"pseudonym", "mask_phone"}),
    "postal_code": frozenset({"mask_postal_code"}),
    "birth_date": frozenset({"birth_year", "age_band"}),
    "city": frozenset(),
    "income": frozenset({"mean of a group"}),
    "link": frozenset({"mask_url"}),
}
MASKS = sorted({mask for masks in ALLOWED.values() for mask in masks} - {"mean of a group"})
# Masks for which any text will do, a piece or a mixture of values too: who has no key learns nothing from them.
DIGESTS = frozenset({"pseudonym"})

# Breakers need no macro: what comes out of them is no longer one person's value, whatever its class.
#   count             how many rows or different values there are
#   condition         a truth value, or one of a few constants that a condition chooses (a band of incomes)
#   mean of a group   sum, avg and the like, where the same query asks for a count of LEAST_GROUP or more
BREAKERS = frozenset({"count", "condition"})
MOST_CONSTANTS = 16  # more constants than these may spell the value out
LEAST_GROUP = 5

# A hook runs statements that are no part of a model's query. These were read: they write no value, but for
# follow_moves, which writes ids of its own table.
HOOKS = frozenset(
    f"{{{{ {hook}() }}}}"
    for hook in (
        "delete_other_keys",
        "follow_moves",
        "forget_completed_user_changes",
        "forget_counted_changes",
        "forget_user_changes",
        "tag_in_lake_formation",
    )
)

# What is before the line, and who reads it on AWS; every other schema counts as refined.
READERS = {"raw": "the transformer", "vault": "the transformer", "staging": "the transformer", "curated": "engineers"}
REFINED_READERS = "analysts"

# Names that personal columns bear, in English and Portuguese.
LOOKS_PERSONAL = re.compile(
    r"""(^|_)(
        e_?mails? | cpf | cnpj | rg | cnh | passports? | passaporte | ssn | tax_id
        | phones? | telefones? | celular | mobile | whatsapp
        | (full|first|last|middle|maiden|family|user|customer|person|mother|father)_?names? | surname | nome | sobrenome
        | birth(_?(date|day))? | dob | (data_)?nascimento
        | address(es)? | endereco | street | rua | logradouro | bairro | city | cidade
        | cep | postal(_?code)? | zip(_?code)? | latitude | longitude | ip(_address)?
        | income | salary | salario | renda
    )(_|$)""",
    re.VERBOSE | re.IGNORECASE,
)


def readers(layer: str) -> str:
    return READERS.get(layer, REFINED_READERS)
