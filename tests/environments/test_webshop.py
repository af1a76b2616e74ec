"""WebShop: the reward by worked numbers, pages that can all be reached, goals of both kinds, truthful simulation."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from environment_cases import check_simulation, prompt, say, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from raylign.actors.environments.agent_format import AgentFormat
from raylign.actors.environments.webshop.fuzzy import common_subsequence, plain_colour, ratio, token_set_ratio
from raylign.actors.environments.webshop.goals import generated_goals, goal_index, read_goals
from raylign.actors.environments.webshop.pages import BACK, BUY, NEXT, PREVIOUS, Page, Place, Shop
from raylign.actors.environments.webshop.products import Product, catalogue
from raylign.actors.environments.webshop.reward import (
    Goal,
    purchase_reward,
    title_nouns,
    title_overlap,
    type_reward,
)
from raylign.actors.environments.webshop.search import Search
from raylign.actors.environments.webshop.shop import WebShop
from raylign.config.build import build
from raylign.contracts import Part
from raylign.environment import Environment
from raylign.errors import DataError

HUMAN_GOALS = Path(__file__).resolve().parents[3] / "shared" / "data" / "webshop" / "human_goals.json"
REAL_GOALS = next((p for p in (HUMAN_GOALS, Path("/work/shared/data/webshop/human_goals.json")) if p.exists()), None)


def make(**fields: Any) -> WebShop:
    return WebShop(WebShop.Config(**fields))


def product(**fields: Any) -> Product:
    base: dict[str, Any] = {
        "asin": "B0",
        "query": "rug",
        "category": "Home > Floor > Rugs",
        "title": "Alder rug carpet runner A1",
        "bullets": ("easy to clean",),
        "description": "made for the hallway",
        "attributes": ("non slip", "machine washable"),
        "options": (("color", ("dusty rose-01", "navy blue")), ("size", ("2x3 ft", "5x8 ft"))),
        "price": 40.0,
        "rating": 4.0,
        "reviews": (),
    }
    return Product(**{**base, **fields})


def goal(**fields: Any) -> Goal:
    base: dict[str, Any] = {
        "instruction": "a rug",
        "query": "rug",
        "category": "Home > Floor > Rugs",
        "title": "Alder rug carpet runner A1",
        "title_attributes": (),
        "attributes": ("non slip", "machine wash", "easy to clean", "fire proof"),
        "options": ("rose", "5x8 ft"),
        "price_cap": 50.0,
    }
    return Goal(**{**base, **fields})


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("black", "blak", 800 / 9),  # LCS 4 of 5 + 4 letters
        ("gluten free", "gluten-free", 100.0),
        ("dark red", "red dark wine", 100.0),  # the words of one are among those of the other
        ("machine wash", "machine washable", 2400 / 28),  # 12 shared letters of 12 + 16
        ("rubber sole", "rubber soles", 2200 / 23),
        ("red shoe", "red boot", max(200 * 5 / 16, 200 * 3 / 11)),  # "red " and one "o"; "red" with "red shoe"
        ("abc", "xyz", 0.0),
        ("", "red", 0.0),
    ],
)
def test_token_set_ratio_by_hand(a: str, b: str, expected: float) -> None:
    assert token_set_ratio(a, b) == pytest.approx(expected)
    assert token_set_ratio(b, a) == pytest.approx(expected)


@given(st.text("abcd ", max_size=12), st.text("abcd ", max_size=12))
def test_the_subsequence_is_the_tables(a: str, b: str) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert common_subsequence(a, b) == table[-1][-1]
    assert 0 <= ratio(a, b) <= 100


@pytest.mark.parametrize(
    ("chosen", "changes", "reward"),
    [
        # 3 of 4 attributes (one alike at 85.7, one in the bullets), both options (by colour name), price: 6 of 7
        ({"color": "dusty rose-01", "size": "5x8 ft"}, {}, 6 / 7),
        ({"color": "navy blue", "size": "5x8 ft"}, {}, 5 / 7),
        ({}, {}, 4 / 7),
        ({"color": "dusty rose-01", "size": "5x8 ft"}, {"price_cap": 39.99}, 5 / 7),
        ({"color": "dusty rose-01", "size": "5x8 ft"}, {"price_cap": 40.0}, 6 / 7),
        ({}, {"attributes": ("non slip",), "options": ()}, 1.0),
        ({}, {"attributes": ("non slip",), "options": (), "query": "mat", "category": "X", "title": "rug mat tile dye "
              "wool yarn felt silk"}, 0.5 * 1.0),  # one noun of eight: 0.125, no other match
        ({}, {"attributes": ("non slip",), "options": (), "title": "rug mat tile dye wool yarn felt silk hemp jute "
              "flax"}, 0.1),  # one of eleven, in spite of the same query
        ({}, {"attributes": ("non slip",), "options": (), "title": "lamp"}, 0.0),
    ],
)  # fmt: skip
def test_the_reward_by_worked_numbers(chosen: dict[str, str], changes: dict[str, Any], reward: float) -> None:
    assert purchase_reward(product(), chosen, goal(**changes)).reward == pytest.approx(reward)


def test_types() -> None:
    far = {"query": "mat", "category": "X > Y", "title": "rug mat tile dye wool yarn felt silk"}
    assert type_reward(product(), goal(**far)) == 0.5
    assert type_reward(product(), goal(**{**far, "query": "rug"})) == 1.0
    assert type_reward(product(), goal(**{**far, "category": "Home > Floor > Mats"})) == 1.0  # two levels
    assert type_reward(product(), goal(**{**far, "category": "Home > Wall > Mats"})) == 0.5  # one level
    assert type_reward(product(), goal(**{**far, "title": "rug mat tile dye"})) == 1.0  # overlap 0.25
    assert title_overlap(product(), goal(title="Red 5x8, non slip", title_attributes=("non slip",))) == 0.2  # no nouns
    assert title_nouns("Alder the RUG, 2x3 ft, navy, non slip pad", ("non slip",)) == {"alder", "rug", "pad"}
    assert [plain_colour(text) for text in ("Dusty Rose-01", "navy blue", "XL")] == ["rose", "blue", "xl"]


def test_the_catalogue_is_whole_and_the_same_for_a_seed() -> None:
    products = catalogue(50, 0)
    assert products == catalogue(50, 0) != catalogue(50, 1)
    assert len({item.asin for item in products}) == 50 and set(Counter(item.query for item in products).values()) == {2}
    for item in products:
        values = [value for _, group in item.options for value in group]
        assert len(set(values)) == len(values) and item.attributes and item.price > 0


def test_search_ranks_by_words() -> None:
    products = catalogue(50, 0)
    search = Search(products)
    for item in products:
        ranked = search.find(item.query)
        assert {products[number].query for number in ranked[:2]} == {item.query}
        assert products[search.find(item.title)[0]].asin == item.asin
    assert search.find("zzz") == () and search.find("") == ()


def explore(shop: Shop, start: Page) -> set[Page]:
    """Every page without chosen options that clicks lead to."""
    seen, open_pages = {start}, [start]
    while open_pages:
        page = open_pages.pop()
        for label in shop.labels(page):
            after = shop.click(page, label)
            assert after != page, (page, label)
            if not after.chosen and after not in seen:
                seen.add(after)
                open_pages.append(after)
    return seen


def test_every_page_can_be_reached_and_every_legal_click_works() -> None:
    shop = Shop(catalogue(50, 0), 10)
    words = " ".join({item.query for item in shop.products})
    first = shop.find(words)
    assert len(first.results) == 50
    seen = explore(shop, first)
    assert {page.place for page in seen} == set(Place)
    assert {page.number for page in seen if page.place is Place.results} == set(range(5))
    assert {page.item for page in seen if page.place is Place.item} == set(range(50))
    details = Counter(page.detail for page in seen if page.place is Place.detail)
    assert details == {"description": 50, "features": 50, "reviews": 50}
    for page in seen:
        assert shop.text(page)


def test_buttons_stand_where_they_should() -> None:
    shop = Shop(catalogue(25, 0), 10)
    page = shop.find(" ".join({ware.query for ware in shop.products}))
    assert PREVIOUS not in shop.labels(page) and NEXT in shop.labels(page)
    last = shop.click(shop.click(page, NEXT), NEXT)
    assert last.number == 2 and NEXT not in shop.labels(last) and PREVIOUS in shop.labels(last)
    assert len(shop.labels(last)) == 2 + 5
    item = shop.click(last, shop.labels(last)[-1])
    group, values = shop.products[item.item].options[0]
    chosen = shop.click(shop.click(item, values[0]), values[1])
    assert dict(chosen.chosen) == {group: values[1]} and f"<{values[1]}>" in shop.text(chosen)
    detail = shop.click(chosen, "features")
    assert shop.click(detail, PREVIOUS) == chosen and shop.click(chosen, PREVIOUS) == last
    assert shop.click(detail, BACK) == Page()
    assert shop.labels(shop.find("zzz")) == (BACK,) and "Nothing" in shop.text(shop.find("zzz"))
    with pytest.raises(ValueError, match="cannot be clicked"):
        shop.click(page, BUY)


def target_of(environment: WebShop) -> Product:
    return next(item for item in environment.shop.products if item.title == environment.goal.title)


def buy_perfectly(environment: WebShop, instance: int) -> Any:
    environment.reset(prompt(env_seed=instance), 0)
    wanted = target_of(environment)
    environment.step(say(f"search[{wanted.title}]"))
    environment.step(say(f"click[{wanted.asin.upper()}]"))
    for value in environment.goal.options:
        assert environment.step(say(f"click[{value}]")).flags["new_option"]
    return environment.step(say("click[Buy Now]"))


def test_who_buys_what_was_asked_for_earns_one() -> None:
    for instance in range(40):
        last = buy_perfectly(make(), instance)
        assert last.reward == 1.0 and last.done and last.flags["success"] and last.flags["over"], instance
        assert last.flags["type"] == 1.0 and last.flags["price_hit"] and last.messages == ()


def test_a_purchase_that_misses_an_option_is_no_success() -> None:
    environment = make()
    environment.reset(prompt(env_seed=3), 0)
    wanted = target_of(environment)
    environment.step(say(f"search[{wanted.title}]"))
    environment.step(say(f"click[{wanted.asin}]"))
    last = environment.step(say("click[buy now]"))
    parts = len(environment.goal.attributes) + len(environment.goal.options) + 1
    assert last.reward == pytest.approx((parts - len(environment.goal.options)) / parts)
    assert last.done and last.flags["over"] and not last.flags["success"]


def test_illegal_actions_are_answered() -> None:
    environment = make()
    environment.reset(prompt(env_seed=1), 0)
    for text in ("", "search[tea]", say("click[buy now]"), say("search[]"), say("wander"), say("click[tea")):
        seen = environment.step(text)
        assert (
            seen.reward == -0.1 and not seen.flags["valid"] and environment.page == Page() and "legal" in text_of(seen)
        )
    assert "type" not in seen.flags  # nothing was bought
    assert environment.step(say("SEARCH[Tea]")).flags["page"] == "results"
    assert environment.step(say("search[tea]")).reward == -0.1  # no search bar here
    assert environment.step(say("click[back to search]")).done  # nine turns


def test_every_listed_action_is_legal() -> None:
    draw = random.Random(0)
    for instance in range(30):
        environment = make(turns=30, actions=30)
        seen = environment.reset(prompt(env_seed=instance), 0)
        while not seen.done:
            action = draw.choice(environment.actions())
            assert action in text_of(seen)
            seen = environment.step(say(action.replace("search[words]", f"search[{environment.goal.query}]")))
            assert seen.flags["valid"] and (seen.flags["effective"] or seen.flags["page"] == "item")


def test_the_pages_share_of_the_goals_words() -> None:
    environment = make()
    environment.reset(prompt(env_seed=3), 0)
    wanted = target_of(environment)
    low = environment.step(say("search[zzz]")).flags["goal_overlap"]
    environment.step(say("click[back to search]"))
    environment.step(say(f"search[{wanted.title}]"))
    high = environment.step(say(f"click[{wanted.asin}]")).flags["goal_overlap"]
    assert 0 == low < high <= 1


def test_letters_name_the_legal_actions() -> None:
    environment = make(format=AgentFormat.letters, results_per_page=3)
    seen = environment.reset(prompt(env_seed=3), 0)
    assert text_of(seen).splitlines() == [environment.goal.instruction, "a search"]
    seen = environment.step("a")
    assert seen.flags["page"] == "results" and len(text_of(seen)) < 300
    lines = text_of(seen).splitlines()
    assert [line[0] for line in lines] == list("abcdefgh"[: len(lines)]) and lines[1] == "b next >"
    assert environment.step("c").flags["page"] == "item"
    assert environment.step("zz").reward == -0.1
    assert environment.step("c").flags["new_option"]
    assert environment.step("abc").flags["page"] == "search"  # cut to one action


def test_goal_indices_follow_the_rule() -> None:
    n = 4000
    order = list(range(n))
    random.Random(42).shuffle(order)
    assert goal_index("test", 1203, n) == order[203]
    assert goal_index("val", 1203, n) == order[703]
    assert goal_index("train", 1203, n) == order[2703]
    assert goal_index("train", 2500 + 7, n) == goal_index("train", 7, n) == order[1507]
    parts = [{goal_index(mode, seed, n) for seed in range(5000)} for mode in ("test", "val", "train")]
    assert [len(part) for part in parts] == [500, 1000, 2500] and len(set.union(*parts)) == n
    with pytest.raises(ValueError, match="too few"):
        goal_index("test", 0, 1500)
    with pytest.raises(ValueError, match="mode"):
        goal_index("dev", 0, n)


def test_the_mode_may_come_with_the_prompt() -> None:
    environment = make()
    train = environment.reset(prompt(env_seed=5), 0)
    assert environment.reset(prompt(env_seed=5, mode="val"), 0) != train
    assert make(mode="val").reset(prompt(env_seed=5), 0) == environment.reset(prompt(env_seed=5, mode="val"), 0)
    with pytest.raises(ValueError, match="env_seed"):
        environment.reset(prompt(), 0)


def attainable(products: tuple[Product, ...], one: Goal) -> bool:
    for candidate in (product for product in products if product.query == one.query):
        chosen = {group: value for group, values in candidate.options for value in values if value in one.options}
        if purchase_reward(candidate, chosen, one).reward == 1:
            return True
    return False


def test_generated_goals_can_be_reached() -> None:
    products = catalogue(50, 0)
    goals = generated_goals(products, 300, 1)
    assert all(attainable(products, goal) for goal in goals)
    assert len({goal.instruction for goal in goals}) > 250


def test_real_instructions_become_goals_that_can_be_reached() -> None:
    if REAL_GOALS is None:
        pytest.skip("the real goals of WebShop (shared/data/webshop) are not on this machine")
    products = catalogue(50, 0)
    goals = read_goals(str(REAL_GOALS), products, 0)
    assert len(goals) > 500 and all(attainable(products, goal) for goal in goals)
    texts = json.loads(REAL_GOALS.read_text())
    assert all(goal.instruction.partition(", and price lower")[0] in " ".join(texts) for goal in goals[:20])
    environment = make(goals_file=str(REAL_GOALS), test_goals=100, validation_goals=100)
    assert environment.goals == tuple(goals)
    assert buy_perfectly(environment, 11).flags["success"]
    with pytest.raises(ValueError, match="too few"):
        make(goals_file=str(REAL_GOALS)).reset(prompt(env_seed=0), 0)


def test_an_instruction_is_read_by_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "goals.json"
    products = (
        product(query="tea", attributes=("gluten free", "king size"), options=(("size", ("king", "twin")),)),
        product(query="rug", attributes=("king size",), options=(("size", ("king", "twin")),)),
    )
    path.write_text(
        json.dumps(["a King-size rug please.", "king size rug, twin", "rug", "gluten free tree", "no kind"])
    )
    goals = read_goals(str(path), products, 0)
    assert [(goal.query, goal.attributes, goal.options) for goal in goals] == [
        ("rug", ("king size",), ()),
        ("rug", ("king size",), ("twin",)),
    ]
    assert goals[0].instruction.startswith("a King-size rug please, and price lower than ")
    assert all(product().price < goal.price_cap <= 80 for goal in goals)
    path.write_text('["nothing"]')
    for text, why in (('["nothing"]', "suits"), ('{"a": 1}', "list"), ("[", "cannot be read")):
        path.write_text(text)
        with pytest.raises(DataError, match=why):
            read_goals(str(path), products, 0)


def choose(environment: Environment, draw: random.Random) -> str:
    assert isinstance(environment, WebShop)
    action = draw.choice((*environment.actions(), "click[nothing]"))
    return say(action.replace("search[words]", f"search[{environment.goal.query if draw.random() < 0.7 else 'free'}]"))


def test_simulated_outcomes_are_the_real_ones_for_1000_prefixes() -> None:
    assert sum(check_simulation(make, choose, seed % 200, seed) for seed in range(1200)) >= 1000


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.lists(st.sampled_from("abcdefgz"), max_size=8))
def test_a_restored_shop_goes_on_as_the_first_would(instance: int, letters: list[str]) -> None:
    environment, twin = make(format=AgentFormat.letters), make(format=AgentFormat.letters)
    environment.reset(prompt(env_seed=instance), 0)
    for letter in letters:
        twin.restore(environment.snapshot())
        seen = environment.step(letter)
        assert twin.step(letter) == seen and twin.snapshot() == environment.snapshot()
        if seen.done:
            return


def test_it_is_a_part() -> None:
    node = {"_target_": "raylign.actors.environments.webshop.shop.WebShop", "format": "letters", "mode": "test"}
    assert isinstance(build(Part, node, "environment.fn"), WebShop)
    for fields in ({"mode": "dev"}, {"products": 0}, {"turns": 0}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            make(**fields)
