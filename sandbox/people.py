"""Made-up Brazilians, as people type themselves into a form: e-mails in mixed case, CPFs with and without dots.

Nobody here exists: names, numbers and places are drawn apart from one another, and every e-mail address ends in the
reserved top-level domain `.example`.
"""

import base64
import datetime as dt
import functools
import itertools
import operator
import random
import unicodedata

FIRST_NAMES = [
    "Adriana", "Alessandra", "Alice", "Aline", "Amanda", "Ana", "Antônio", "Arthur", "Beatriz", "Bernardo",
    "Bianca", "Breno", "Bruno", "Caio", "Camila", "Carla", "Carlos", "Cauã", "Cecília", "Clara", "Cláudio",
    "Daniel", "Débora", "Diego", "Eduarda", "Eduardo", "Elisa", "Elói", "Enzo", "Fábio", "Felipe", "Fernanda",
    "Flávia", "Francisco", "Gabriel", "Gabriela", "Gilberto", "Giovanna", "Guilherme", "Gustavo", "Heitor",
    "Helena", "Henrique", "Heloísa", "Igor", "Inês", "Isabela", "Ítalo", "Joana", "João", "Jorge", "José", "Júlia",
    "Juliana", "Kaique", "Karina", "Larissa", "Laura", "Leonardo", "Letícia", "Lívia", "Lorena", "Lucas", "Luíza",
    "Manuela", "Marcelo", "Márcia", "Mariana", "Mateus", "Maurício", "Miguel", "Mônica", "Natália", "Nícolas",
    "Otávio", "Patrícia", "Paulo", "Pedro", "Rafael", "Raíssa", "Raquel", "Renata", "Ricardo", "Rodrigo",
    "Rosângela", "Samuel", "Sandra", "Sérgio", "Simone", "Sofia", "Sônia", "Tânia", "Thiago", "Valentina", "Vera",
    "Vinícius", "Vitória", "Wagner", "Yasmin", "Zélia",
]  # fmt: skip
SURNAMES = [
    "Abreu", "Aguiar", "Albuquerque", "Almeida", "Alves", "Amaral", "Andrade", "Antunes", "Aragão", "Araújo",
    "Assis", "Azevedo", "Barbosa", "Barros", "Batista", "Bezerra", "Borges", "Braga", "Brandão", "Brito", "Bueno",
    "Cardoso", "Carneiro", "Carvalho", "Castro", "Cavalcanti", "Conceição", "Cordeiro", "Corrêa", "Costa", "Cunha",
    "D'Ávila", "Dias", "Duarte", "Esteves", "Farias", "Fernandes", "Ferreira", "Figueiredo", "Fonseca", "Franco",
    "Freitas", "Garcia", "Gomes", "Gonçalves", "Guimarães", "Leite", "Lima", "Lopes", "Macedo", "Machado",
    "Magalhães", "Marinho", "Martins", "Matos", "Medeiros", "Mello", "Mendonça", "Monteiro", "Moraes", "Moreira",
    "Moura", "Nascimento", "Nogueira", "Nunes", "Oliveira", "Pacheco", "Paiva", "Peixoto", "Pereira", "Pinheiro",
    "Queiroz", "Ramos", "Rezende", "Ribeiro", "Rocha", "Rodrigues", "Sá", "Sales", "Sampaio", "Santana", "Santos",
    "Silva", "Siqueira", "Souza", "Tavares", "Teixeira", "Torres", "Vargas", "Vasconcelos", "Vieira", "Xavier",
]  # fmt: skip
# City, state, area code of its phones, first three digits of its postal codes. The first ones have more people.
CITIES = [
    ("São Paulo", "SP", "11", "041"), ("Rio de Janeiro", "RJ", "21", "220"), ("Belo Horizonte", "MG", "31", "301"),
    ("Campinas", "SP", "19", "130"), ("Salvador", "BA", "71", "401"), ("Curitiba", "PR", "41", "800"),
    ("Fortaleza", "CE", "85", "601"), ("Recife", "PE", "81", "500"), ("Porto Alegre", "RS", "51", "900"),
    ("Brasília", "DF", "61", "700"), ("Goiânia", "GO", "62", "740"), ("Belém", "PA", "91", "660"),
    ("Manaus", "AM", "92", "690"), ("Santos", "SP", "13", "110"), ("Ribeirão Preto", "SP", "16", "140"),
    ("Niterói", "RJ", "21", "240"), ("Uberlândia", "MG", "34", "384"), ("Juiz de Fora", "MG", "32", "360"),
    ("Vitória", "ES", "27", "290"), ("Feira de Santana", "BA", "75", "440"), ("Londrina", "PR", "43", "860"),
    ("Florianópolis", "SC", "48", "880"), ("Joinville", "SC", "47", "892"), ("Caxias do Sul", "RS", "54", "950"),
    ("Natal", "RN", "84", "590"), ("João Pessoa", "PB", "83", "580"), ("Maceió", "AL", "82", "570"),
    ("Aracaju", "SE", "79", "490"), ("Teresina", "PI", "86", "640"), ("São Luís", "MA", "98", "650"),
    ("Cuiabá", "MT", "65", "780"), ("Campo Grande", "MS", "67", "790"), ("Palmas", "TO", "63", "770"),
    ("Porto Velho", "RO", "69", "768"), ("Rio Branco", "AC", "68", "699"), ("Boa Vista", "RR", "95", "693"),
    ("Macapá", "AP", "96", "689"),
]  # fmt: skip
_CITY_WEIGHTS = list(itertools.accumulate(1 / rank for rank in range(1, len(CITIES) + 1)))
_AREAS = {state: area for _, state, area, _ in reversed(CITIES)}
STATUSES = ("ativo", "inativo", "bloqueado", "pendente")
_MAIL_HOSTS = ("correio.example", "caixa-postal.example", "solar.example", "empresa.example")
_NOTES = (
    "Pediu segunda via do contrato.",
    "{nome} ligou e quer antecipar parcelas.",
    "Retornar para {nome} no {telefone} depois das 18h.",
    "Cliente indicado por {nome}; telefone novo: {telefone}.",
    "Instalação agendada.\nPortaria: falar com {nome}.",
    "Não ligar aos sábados 🙏",
    'Assinou como "{nome}" no boleto \\ contrato; conferir.',
)


def person(rng: random.Random) -> dict[str, str | None]:
    """One made-up person: the columns of public.usuarios that the application sets, as text."""
    nome = full_name(rng)
    place = address(rng)
    telefone = phone(rng, place["uf"])
    return {
        "nome": nome,
        "email": email(rng, nome),
        "cpf": cpf(rng),
        "telefone": telefone,
        "data_nascimento": birth_date(rng),
        **place,
        "renda_mensal": income(rng),
        "status": status(rng),
        "observacoes": notes(rng, nome, telefone),
    }


def full_name(rng: random.Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(SURNAMES)} {rng.choice(SURNAMES)}"


def email(rng: random.Random, nome: str) -> str:
    """An address made of the name: one in eight in mixed case, one in twenty with stray spaces."""
    local_part = ".".join(map(_plain, nome.split()))
    address = f"{local_part}{rng.randrange(10_000)}@{rng.choice(_MAIL_HOSTS)}"
    if rng.random() < 1 / 8:
        address = address.upper() if rng.random() < 0.3 else address.title()
    if rng.random() < 1 / 20:
        address = f" {address}" if rng.random() < 0.5 else f"{address} "
    return address


@functools.cache
def _plain(word: str) -> str:
    """Lower case, without accents and apostrophes."""
    return "".join(filter(str.isalpha, unicodedata.normalize("NFD", word.lower())))


def cpf(rng: random.Random) -> str:
    """A CPF with valid check digits, two in three with the usual punctuation."""
    digits = with_check_digits(f"{rng.randrange(10**9):09}")
    if rng.random() < 2 / 3:
        return f"{digits[:3]}.{digits[3:6]}.{digits[6:9]}-{digits[9:]}"
    return digits


def with_check_digits(digits: str) -> str:
    """Nine digits -> eleven: each check digit weighs what is left of it by 2, 3, 4, ... from the right, modulo 11."""
    for _ in range(2):
        weighted = sum(map(operator.mul, itertools.count(2), map(int, reversed(digits))))
        digits += str(-weighted % 11 % 10)
    return digits


def phone(rng: random.Random, uf: str | None) -> str | None:
    """A mobile number with an area code of the state, written in one of four ways; one in twelve people gives none."""
    if rng.random() < 1 / 12:
        return None
    number = f"{rng.randrange(10**8):08}"
    style = rng.choice(("({}) 9{}-{}", "{} 9{} {}", "{}9{}{}", "+55 {} 9{}-{}"))
    return style.format(_AREAS.get(uf, "11"), number[:4], number[4:])


def address(rng: random.Random) -> dict[str, str | None]:
    """Postal code, city and state that belong together; one in thirty has not given any of them."""
    if rng.random() < 1 / 30:
        return {"cep": None, "cidade": None, "uf": None}
    ((city, state, _, prefix),) = rng.choices(CITIES, cum_weights=_CITY_WEIGHTS)
    rest = f"{rng.randrange(100_000):05}"
    cep = f"{prefix}{rest[:2]}-{rest[2:]}" if rng.random() < 0.7 else prefix + rest
    return {"cep": cep, "cidade": city, "uf": state}


def birth_date(rng: random.Random) -> str | None:
    """Between 1940 and 2007; one in forty unknown."""
    if rng.random() < 1 / 40:
        return None
    return str(dt.date(1940, 1, 1) + dt.timedelta(days=rng.randrange(67 * 365)))


def income(rng: random.Random) -> str | None:
    """Reais a month, log-normal around 3,600; one in ten does not tell."""
    return None if rng.random() < 0.1 else f"{rng.lognormvariate(8.2, 0.7):.2f}"


def status(rng: random.Random) -> str:
    return rng.choices(STATUSES, cum_weights=(70, 82, 87, 100))[0]


def notes(rng: random.Random, nome: str, telefone: str | None) -> str | None:
    """Free text of a third of the people, which often names them; one in 150 is so long that it is TOASTed."""
    chance = rng.random()
    if chance < 1 / 150:  # text that does not compress, so that it is stored out of line
        return "Anexo: " + base64.b64encode(rng.randbytes(rng.randrange(2_000, 6_000))).decode()
    if chance < 1 / 3:
        return rng.choice(_NOTES).format(nome=nome, telefone=telefone or "(não informado)")
    return None
